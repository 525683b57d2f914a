"""Appendix: what the page shows after its boards. Descriptive; it orders nothing."""

from collections.abc import Sequence
from typing import Any

from nibench.boards import Board, overlap
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


def agreement(results: Results, order: Sequence[str]) -> dict[str, Any]:
    """The rows of the agreement table: a method and its overlap with each method, with ends; and what these rest on."""
    methods, found = overlap(results)
    shown = [methods.index(method) for method in order if method in methods]
    rows = [
        {
            "method": methods[i],
            "values": [rounded(found.values[i, j], 3) for j in shown],
            "ends": [[rounded(end[i, j], 3) for end in (found.low, found.high)] for j in shown],
        }
        for i in shown
    ]
    return {"agreement": rows, "agreement_level": found.level}


def studies(results: Results) -> dict[str, Any]:
    """Whether agreement meant correctness and whether truth transferred, where the records can tell."""
    from nibench.studies import agreement as agreeing
    from nibench.studies import transfer

    try:
        found = agreeing.study(results)
        tiers = transfer.study(results)
    except InputError:  # nothing is known of these neurons
        return {"agreement": [], "transfer": [], "missing": []}
    shown = [one for one in found.correlations if one.tier == "all" or one.claim == "own"]
    return {
        "agreement": [
            {
                "truth": "its own claim" if one.claim == "own" else one.claim,
                "tier": one.tier,
                "measure": one.measure.replace("_", " "),
                "value": number(one.value),
                "range": words_of_range(one.ci95),
                "cells": one.places,
            }
            for one in shown
        ],
        "transfer": [
            {
                "claim": t.claim,
                "tiers": f"{t.first} to {t.second}",
                "value": number(t.value),
                "range": words_of_range(t.ci95),
            }
            for t in tiers.taus
        ],
        "missing": list(tiers.missing),
    }
