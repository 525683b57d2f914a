"""Treebanks: sentences of tokens from CoNLL-U files or hub data sets, with errors that name the line."""

from pathlib import Path
from typing import Any, Protocol

from nibench.errors import InputError


def conllu_path(treebank: str, part: str, data: Path) -> Path:
    return data / f"{treebank}-ud-{part}.conllu"


class Treebank(Protocol):
    """One part of a treebank; sentences are only parsed when they are asked for."""

    def __len__(self) -> int: ...

    def n_words(self, sentence: int) -> int: ...

    def tokens(self, sentence: int) -> list[Any]:
        """The words, each with form, lemma, upos, xpos, feats and deprel; no ranges, no empty nodes."""
        ...


def open_treebank(treebank: str, part: str, data: Path | str | None) -> Treebank:
    if data is None:
        raise InputError(
            f"{treebank} is not shipped with nibench. Say where it is: --data DIR with "
            f"DIR/{treebank}-ud-{part}.conllu in it (universaldependencies.org), or --data OWNER/NAME on the hub."
        )
    if Path(data).is_dir():
        return ConlluFile(conllu_path(treebank, part, Path(data)))
    return HubTreebank(treebank, part, str(data))


class ConlluFile:
    """A CoNLL-U file.

    Raises
    ------
    InputError
        If the file is missing, empty or malformed; the message names the file and the line.
    """

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"Cannot read {path}: {error}. Pass --data DIR with {path.parent.name}/{path.name}."
            ) from None
        self.path = path
        self._blocks: list[tuple[int, list[str]]] = []  # first line number, lines
        fresh = True
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                fresh = True
                continue
            fields = line.count("\t") + 1
            if not line.startswith("#") and (fields != 10 or not line[0].isdigit()):
                raise InputError(
                    f"{path}, line {number}: {fields} tab-separated fields; CoNLL-U has 10, the first an id."
                )
            if fresh:
                self._blocks.append((number, []))
                fresh = False
            self._blocks[-1][1].append(line)
        if not self._blocks:
            raise InputError(f"{path} is empty; expected sentences in CoNLL-U.")

    def __len__(self) -> int:
        return len(self._blocks)

    def n_words(self, sentence: int) -> int:
        return sum(line.partition("\t")[0].isdigit() for line in self._blocks[sentence][1])

    def tokens(self, sentence: int) -> list[Any]:
        import conllu
        from conllu.exceptions import ParseException

        start, lines = self._blocks[sentence]
        try:
            parsed = conllu.parse("\n".join(lines) + "\n\n")
        except ParseException as error:
            where = f"lines {start} to {start + len(lines) - 1}"
            raise InputError(f"{self.path}, {where}: not CoNLL-U ({str(error).splitlines()[0]}).") from None
        return [token for each in parsed for token in each if isinstance(token["id"], int)]


class HubTreebank:
    """One part of a hub data set with columns tokens, upos and feats, such as the Universal Dependencies mirrors."""

    def __init__(self, treebank: str, part: str, name: str, configuration: str | None = "") -> None:
        import datasets

        configuration = treebank.rpartition("/")[2] if configuration == "" else configuration
        try:
            self._table = datasets.load_dataset(name, configuration, split=part)
        except Exception as error:  # the hub client raises many unrelated types
            message = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise InputError(
                f"Cannot load {configuration!r} of data set {name!r}: {message}. "
                f"Pass --data DIR with {treebank}-ud-{part}.conllu, or a hub id with tokens, upos and feats."
            ) from None
        missing = {"tokens", "upos", "feats"} - set(self._table.column_names)
        if missing:
            raise InputError(
                f"Data set {name!r} has no column {sorted(missing)[0]!r}; expected tokens, upos and feats."
            )
        self._upos = getattr(getattr(self._table.features["upos"], "feature", None), "names", None)

    def __len__(self) -> int:
        return len(self._table)

    def n_words(self, sentence: int) -> int:
        return len(self._table[sentence]["tokens"])

    def tokens(self, sentence: int) -> list[Any]:
        row = self._table[sentence]
        others = {
            key: row.get(name) for key, name in (("lemma", "lemmas"), ("xpos", "xpos"), ("deprel", "deprel"))
        }
        return [
            {
                "form": form,
                "upos": self._upos[row["upos"][i]] if self._upos else row["upos"][i],
                "feats": _features(row["feats"][i]),
                **{key: values[i] if values else None for key, values in others.items()},
            }
            for i, form in enumerate(row["tokens"])
        ]


def _features(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return dict(pair.split("=", 1) for pair in value.split("|") if "=" in pair)
    return dict(value or {})
