"""The corpus: for each invariant, histories and books that it must reject, and the nearest ones that it must accept."""
