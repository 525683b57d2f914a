"""Sources: labels as the treebank has them, splits by sentence, errors that name the line."""

from pathlib import Path

import pytest

from nibench import load_task, sources
from nibench.errors import InputError
from nibench.task import Task, TextCorpus
from nibench.treebank import HubTreebank

SENTENCE = """# text = The dogs don't bark .
1\tThe\tthe\tDET\tDT\t_\t2\tdet\t_\t_
2\tdogs\tdog\tNOUN\tNNS\tNumber=Plur\t5\tnsubj\t_\t_
3-4\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
3\tdo\tdo\tAUX\tVBP\tNumber=Plur\t5\taux\t_\t_
4\tn't\tnot\tPART\tRB\t_\t5\tadvmod\t_\t_
5\tbark\tbark\tVERB\tVB\t_\t0\troot\t_\t_
5.1\tghost\tghost\tNOUN\tNN\tNumber=Sing\t_\t_\t_\t_
6\t.\t.\tPUNCT\t.\t_\t5\tpunct\t_\t_

"""


def treebank(folder: Path, train: str = SENTENCE * 20, test: str = SENTENCE * 3) -> Path:
    (folder / "ud").mkdir(parents=True)
    (folder / "ud" / "xx-ud-train.conllu").write_text(train, encoding="utf-8")
    (folder / "ud" / "xx-ud-test.conllu").write_text(test, encoding="utf-8")
    return folder


def load(data: Path, cap: int | None = None, **where: tuple[str, ...]) -> TextCorpus:
    return sources.word_labels("ud/xx", column="Number", where=where).load(
        seed=0, data=data, folder=None, cap=cap
    )


def test_ranges_and_empty_nodes_are_skipped(tmp_path: Path) -> None:
    corpus = load(treebank(tmp_path))
    assert corpus.sentences[0].words == ("The", "dogs", "do", "n't", "bark", ".")
    assert corpus.classes == ("Plur",)
    assert corpus.sentences[0].labels == (-1, 0, 0, -1, -1, -1)


def test_labels_can_be_restricted(tmp_path: Path) -> None:
    assert load(treebank(tmp_path), upos=("NOUN",)).sentences[0].labels == (-1, 0, -1, -1, -1, -1)


def test_train_is_halved_by_sentence_and_test_is_eval(tmp_path: Path) -> None:
    counts = dict.fromkeys(("rank", "probe", "eval"), 0)
    for sentence in load(treebank(tmp_path)).sentences:
        counts[sentence.split] += 1
    assert counts == {"rank": 10, "probe": 10, "eval": 3}


def test_the_cap_draws_whole_sentences_and_leaves_eval_whole(tmp_path: Path) -> None:
    corpus = load(treebank(tmp_path), cap=27)  # sentences of 6 words: four fit
    kinds = [sentence.split for sentence in corpus.sentences]
    assert kinds.count("rank") + kinds.count("probe") == 4
    assert kinds.count("eval") == 3


def test_malformed_conllu_names_the_line(tmp_path: Path) -> None:
    bad = SENTENCE.replace("5\tbark\tbark\tVERB", "5\tbark bark VERB")
    with pytest.raises(
        InputError, match=r"xx-ud-train\.conllu, line 7: 8 tab-separated fields; CoNLL-U has 10"
    ):
        load(treebank(tmp_path, train=bad))


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"xx-ud-test\.conllu is empty"):
        load(treebank(tmp_path, test=""))


def test_a_missing_file_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Pass --data DIR with ud/xx-ud-train\.conllu"):
        load(tmp_path)


def test_no_data_says_what_to_pass() -> None:
    with pytest.raises(InputError, match="not shipped with nibench. Say where it is: --data DIR"):
        load_task("number_ewt").load()


def test_a_class_that_the_data_lacks_is_named(tmp_path: Path) -> None:
    base = load_task("number_ewt")
    task = Task("number", ("Plur", "Dual"), sources.word_labels("ud/xx", column="Number"), base.control)
    with pytest.raises(InputError, match="no item of class 'Dual'; the data has Plur"):
        task.load(data=treebank(tmp_path))


def test_labels_of_other_classes_become_unlabelled(tmp_path: Path) -> None:
    data = treebank(tmp_path, train=(SENTENCE + SENTENCE.replace("Number=Plur", "Number=Sing")) * 9)
    task = Task(
        "pos", ("VERB", "NOUN"), sources.word_labels("ud/xx", column="upos"), load_task("number_ewt").control
    )
    corpus = task.load(data=data)
    assert isinstance(corpus, TextCorpus)
    assert corpus.classes == ("VERB", "NOUN")
    assert corpus.sentences[0].labels == (-1, 1, -1, -1, 0, -1)


def test_a_data_set_of_arrow_files_reads_like_the_treebank(tmp_path: Path) -> None:
    import datasets

    words = ["The", "dogs", "bark"]
    rows = {
        "tokens": [words] * 8,
        "upos": [["DET", "NOUN", "VERB"]] * 8,
        "feats": [["_", "Number=Plur|Case=Nom", "_"]] * 8,
    }
    folder = tmp_path / "hub" / "xx"
    for part in ("train", "test"):
        datasets.Dataset.from_dict(rows).to_parquet(folder / f"{part}.parquet")
    treebank = HubTreebank("ud/xx", "train", str(folder), configuration=None)
    assert (len(treebank), treebank.n_words(0)) == (8, 3)
    assert [token["form"] for token in treebank.tokens(0)] == words
    assert treebank.tokens(0)[1]["feats"] == {"Number": "Plur", "Case": "Nom"}


def test_real_treebank_counts(shared: Path) -> None:
    corpus = sources.word_labels("ud/en_ewt", column="upos").load(
        seed=0, data=shared / "data", folder=None, cap=2000
    )
    evaluated = [s for s in corpus.sentences if s.split == "eval"]
    assert (len(evaluated), sum(len(s.words) for s in evaluated)) == (2077, 25094)
    assert len(corpus.classes) == 17
