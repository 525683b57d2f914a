"""Files are found by name, by path or by entry point; a broken file is one clear line."""

from pathlib import Path

import pytest

from nibench.errors import InputError
from nibench.scaffold import write_new
from nibench.submissions import find_method, find_task, load_file, method_card, names

METHOD = """
from dataclasses import dataclass
from typing import ClassVar
from nibench import Method, Needs, Ranking

@dataclass(frozen=True)
class Mine(Method):
    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    presets = {"loud2020": {"power": 2.0}}
    power: float = 1.0

    def rank(self, data, rng):
        return Ranking.from_scores(data.activations.std(axis=0) ** self.power)
"""


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_path_is_as_good_as_a_name(tmp_path: Path) -> None:
    file = find_method(write(tmp_path, METHOD))
    assert file.id == "mine"
    assert file.load().power == 1.0  # type: ignore[attr-defined]
    assert file.reference == str(tmp_path / "mine.py")
    assert find_method("probeless").reference == "probeless"


@pytest.mark.parametrize("name", ["My Idea.py", "<script>alert(1)<script>.py", "a" * 61 + ".py"])
def test_a_file_whose_name_cannot_be_typed_is_no_method(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="lower case, digits and underscores, as in my_idea.py"):
        find_method(write(tmp_path, METHOD, name.replace("/", "")))


def test_no_file_takes_the_name_of_a_bundled_method(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a method 'lca' already; rename the file, as in my_lca.py"):
        find_method(write(tmp_path, METHOD, "lca.py"))
    assert find_method(write(tmp_path, find_method("lca").path.read_text(), "lca.py")).id == "lca"  # a copy


def test_presets_set_fields_and_parameters_come_last(tmp_path: Path) -> None:
    path = write(tmp_path, METHOD)
    assert find_method(f"{path}@loud2020").load().power == 2.0  # type: ignore[attr-defined]
    assert find_method(f"{path}@loud2020", {"power": 3.0}).load().power == 3.0  # type: ignore[attr-defined]


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"No method named 'gausian_probe'\. Did you mean 'gaussian_probe'\?"
    ):
        find_method("gausian_probe")
    with pytest.raises(InputError, match=r"No task named 'number_ewtt'\. Did you mean 'number_ewt'\?"):
        find_task("number_ewtt")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("@loud2021", "No preset of mine named 'loud2021'\\. Did you mean 'loud2020'"),
        ("@x", "It has the presets loud2020"),
    ],
)
def test_an_unknown_preset_lists_what_there_is(tmp_path: Path, reference: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_method(write(tmp_path, METHOD) + reference).load()


def test_an_unknown_parameter_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No parameter of mine named 'pover'. Did you mean 'power'"):
        find_method(write(tmp_path, METHOD), {"pover": 1}).load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise RuntimeError('boom')\n", r"mine\.py, line 2, raised RuntimeError at import: boom"),
        ("def f(:\n", r"mine\.py, line 1, raised SyntaxError at import"),
        ("import no_such_library\n", r"line 1, raised ModuleNotFoundError at import"),
        ("x = 1\n", "defines 0 Method classes; expected exactly one"),
        (METHOD + METHOD.replace("Mine", "Yours"), "defines 2 Method classes"),
        (METHOD.replace("    needs: ClassVar[Needs] = Needs.ACTIVATIONS\n", ""), "declares no needs"),
        (METHOD.replace("def rank", "def rang"), "cannot make Mine"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_method(write(tmp_path, text)).load()


def test_a_file_that_is_not_there_says_how_to_make_one() -> None:
    with pytest.raises(InputError, match=r"No file 'nowhere/mine.py'. Make one: nibench new method mine"):
        find_method("nowhere/mine.py")


def test_two_files_of_one_name_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = load_file(Path(write(tmp_path / "a", "value = 1\n")))
    second = load_file(Path(write(tmp_path / "b", "value = 2\n")))
    assert (first.value, second.value) == (1, 2)


def test_an_installed_package_brings_its_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write(package, METHOD, "loudness.py")
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nibench.methods]\ntheir_loudness = their_package.loudness\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "their_loudness" in names("methods")
    file = find_method("their_loudness@loud2020")
    assert file.load().power == 2.0  # type: ignore[attr-defined]
    assert method_card(file)["presets"] == {"loud2020": {"power": 2.0}}


def test_a_new_file_is_named_in_lower_case_and_never_overwrites(tmp_path: Path) -> None:
    path = write_new("method", "my_idea", tmp_path)
    assert path == tmp_path / "my_idea.py"
    with pytest.raises(InputError, match=r"exists; choose another id"):
        write_new("method", "my_idea", tmp_path)
    with pytest.raises(InputError, match=r"is no id"):
        write_new("method", "My Idea", tmp_path)
    with pytest.raises(InputError, match=r"There is a method 'probeless' already"):
        write_new("method", "probeless", tmp_path)


def test_a_worlds_dials_are_turned_in_the_name_of_the_task() -> None:
    file = find_task("graded_noise_world@snr=0.5,draw=3")
    assert file.id == file.reference == "graded_noise_world@snr=0.5,draw=3"
    source = file.load().source
    assert source.draw == 3  # type: ignore[attr-defined]
    assert source.spec.signal_range == (0.05, 0.6)  # type: ignore[attr-defined]
    plain = find_task("graded_noise_world").load().source
    assert source.fingerprint(None, None) != plain.fingerprint(None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("graded_noise_world@snr=x", r"'snr=x' in .*: expected dial=number"),
        ("graded_noise_world@snrr=1", r"No dial named 'snrr'. Did you mean 'snr'"),
        ("number_ewt@snr=1", r"only sampled worlds have dials; type number_ewt alone"),
        ("graded_noise_wrold@snr=1", r"Did you mean 'graded_noise_world'"),
    ],
)
def test_a_dial_that_cannot_be_turned_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_task(name).load()
