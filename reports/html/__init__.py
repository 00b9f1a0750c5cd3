"""The HTML report: one self-contained file that opens from a CI artefact, without network and without script.

`material` reads a run folder; `over_time`, `latency`, `numbers`, `gaps`, `lanes` and `steps` turn it into views, small
frozen values; `charts` draws views as inline SVG; `report` fills the template and keeps the file within its size.
"""

from reports.html.report import FORMAT, HtmlReport

__all__ = ["FORMAT", "HtmlReport"]
