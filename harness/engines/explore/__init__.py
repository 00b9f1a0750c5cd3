"""The explore engine: one chosen interleaving after another, through the wire, until the tree is exhausted.

`piece` is what the clients do. `search` decides which interleaving is next and knows no store; `sampling` draws lots where
the tree is too large; `footprints` says which steps may be swapped, `moves` what may be done with one. `stage` runs one
interleaving on real connections, `play` knows who is where in it, `scene` puts the store back. `token` writes an interleaving
down, `diagram` draws it as text, `picture` as SVG; `engine` puts them together.
"""

from harness.engines.explore.engine import ExploreEngine, ExploreOutcome, ExplorePlan, Found

__all__ = ["ExploreEngine", "ExploreOutcome", "ExplorePlan", "Found"]
