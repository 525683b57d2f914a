"""Report: the records of a run, to look at in a terminal, in a notebook, and with pandas."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nibench.errors import InputError
from nibench.record import Record, read_record, record_paths
from nibench.results import Results, collect
from nibench.stored import with_arrays

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Group
    from rich.table import Table

    from nibench.comparison import Comparison


@dataclass(frozen=True, repr=False)
class Report:
    """The records of a run. Shows itself as a table: printed, in a notebook, and by rich.

    Attributes
    ----------
    records : list of Record
        One per cell, failures included.
    folder : Path
        Where they lie.
    skipped : tuple of str
        Task and model pairs that do not go together, with the reason.
    """

    records: list[Record]
    folder: Path
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    computed: int = 0

    @classmethod
    def read(cls, folder: str | Path) -> "Report":
        """The report of a results folder, such as ``nibench run`` leaves.

        Raises
        ------
        InputError
            If it holds no records, or a file is not whole.
        """
        return cls([read_record(path) for path in record_paths(Path(folder))], Path(folder))

    @cached_property
    def results(self) -> Results:
        """The records sorted into cells.

        Raises
        ------
        InputError
            If they must not share a board, or their arrays are gone.
        """
        try:
            return collect(with_arrays(self.records, self.folder))
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} is gone: run the report's cells again.") from None

    def table(self) -> "Table":
        """The headline boards as a rich table that fits 80 columns."""
        from nibench.tables import headline_table

        return headline_table(self.results)

    def difficulty(self) -> "list[Group]":
        """Where each method breaks as a world gets harder, a table per dial; empty if none was turned."""
        from nibench.difficulty import curves, tables

        return tables(curves(self.results))

    def compare(self, *methods: str) -> "Comparison":
        """Methods head to head: paired differences, corrected p-values, where each wins; shows itself.

        Raises
        ------
        InputError
            For fewer than two methods, or methods that are not in the records or share no cell.
        """
        from nibench.comparison import compare

        return compare(self.results, methods)

    def to_pandas(self) -> "DataFrame":
        """Tidy: one row per cell and metric, the columns of ``leaderboard.csv``; what is not known is missing.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        try:
            import pandas
            import pyarrow
        except ImportError:
            raise InputError(
                "report.to_pandas() needs pandas, which is not installed: pip install pandas"
            ) from None
        from nibench.tidy import to_arrow

        counts = {pyarrow.int64(): pandas.Int64Dtype()}  # else a missing count makes its column floats
        return to_arrow(self.results).to_pandas(types_mapper=counts.get)

    def __repr__(self) -> str:
        methods = {record.cell.label for record in self.records}
        failed = sum(record.status == "failed" for record in self.records)
        said = f"{len(self.records)} cells of {len(methods)} methods, {failed} failed, in {self.folder}"
        return f"<Report: {said}; print() shows the table>"

    def __str__(self) -> str:
        from nibench.tables import as_text

        return as_text(self)

    def __rich__(self) -> "Table":
        return self.table()

    def _repr_html_(self) -> str:
        from nibench.notebook import boards_html

        return boards_html(self.results, [f"Not run: {reason}" for reason in self.skipped])
