"""The explore engine: one chosen interleaving after another, through the wire, until the tree is exhausted.

`search` decides which interleaving is next and knows no store; `footprints` says which steps may be swapped; `stage` runs
one interleaving on real connections; `token` writes it down; `engine` puts them together.
"""

from harness.engines.explore.engine import ExploreEngine, ExploreOutcome, ExplorePlan, Found

__all__ = ["ExploreEngine", "ExploreOutcome", "ExplorePlan", "Found"]
