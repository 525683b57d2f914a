"""Slow and literal: average precision threshold by threshold, and IoU item by item."""


def average_precision(scores, relevant):
    """The sum over thresholds, highest first, of recall gained times precision there."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        gained = (taken & relevant).sum() / relevant.sum()
        total += (gained - recall) * (taken & relevant).sum() / taken.sum()
        recall = gained
    return total


def excess_iou(scores, relevant):
    """IoU of the class with the items strictly above its matched quantile, minus that of a random set."""
    n, items = int(relevant.sum()), len(scores)
    on = scores > sorted(scores.tolist())[items - n - 1]
    p, q = n / items, on.mean()
    return (on & relevant).sum() / (on | relevant).sum() - p * q / (p + q - p * q)
