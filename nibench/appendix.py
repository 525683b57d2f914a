"""Appendix: what the page shows after its boards. Descriptive; it orders nothing."""

from typing import Any

from nibench.boards import Board
from nibench.comparison import wins_of
from nibench.errors import InputError
from nibench.results import Results
from nibench.summary import words_of_range
from nibench.wording import number, rounded


def wins(results: Results, board: Board) -> dict[str, Any] | None:
    """Who beats whom among the methods that cover all cells of a board; None with fewer than two."""
    methods = [row.method for row in board.rows if row.complete]
    found = wins_of(results, board.axis, methods, board.places)
    if found is None:
        return None
    test = found.friedman
    means = test["mean_ranks"] if test else [None] * len(methods)
    ranks = [
        {"method": m, "rank": rounded(r), "borda": rounded(b), "strength": rounded(s)}
        for m, r, b, s in zip(methods, means, found.borda, found.bradley_terry, strict=True)
    ]
    return {
        "methods": methods,
        "blocks": len(found.blocks),
        "shares": [[None if x is None else rounded(x, 3) for x in row] for row in found.shares],
        "ranks": ranks,
        "friedman": test and {k: rounded(v) for k, v in test.items() if k not in ("mean_ranks", "n_blocks")},
    }


def correctness(results: Results) -> list[dict[str, Any]]:
    """The rows of "Does agreement mean correctness?"; none where the records cannot tell."""
    from nibench.studies import agreement as agreeing

    try:
        found = agreeing.study(results)
    except InputError:  # nothing is known of these neurons
        return []
    shown = [one for one in found.correlations if one.tier == "all" or one.claim == "own"]
    return [
        {
            "truth": "its own claim" if one.claim == "own" else one.claim,
            "tier": one.tier,
            "measure": one.measure.replace("_", " "),
            "value": number(one.value),
            "range": words_of_range(one.ci95),
            "cells": one.places,
        }
        for one in shown
    ]
