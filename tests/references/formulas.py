"""Slow and literal: the best IoU of any formula of so many concepts, every one written out."""


def best_iou(on, concepts, length):
    """A formula is a concept, or a shorter formula joined with a concept by AND, OR or AND NOT."""
    formulas = list(concepts)
    shorter = formulas
    for _ in range(length - 1):
        shorter = [m for f in shorter for c in concepts for m in (f & c, f | c, f & ~c)]
        formulas = formulas + shorter
    return max((on & f).sum() / (on | f).sum() for f in formulas)
