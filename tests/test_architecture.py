"""The structure holds: imports point one way, and a stranger's file has every door a bundled one has."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nibench"

# Lower layers first; a module imports only from layers before its own, or from its own layer's neighbours
# named before it. Imports under TYPE_CHECKING are free: they carry no data.
LAYERS = [
    {"errors"},
    {"neurons", "wording", "disk"},
    {"metric_cards", "rendering"},
    {"ranking", "uncertainty", "cost", "evidence"},
    {"task", "rankings"},
    {
        "control",
        "suites",
        "architecture",
        "modelfiles",
        "order_statistics",
        "adam",
        "subsets",
        "quadratic",
        "solvers",
        "linear",
        "gaussian",
        "treebank",
        "minimal_pairs",
    },
    {"probes", "moments"},
    {"model"},
    {"words", "prompts", "cache", "items", "weights"},
    {"activations", "groups", "means", "readout", "texts", "soft_inputs", "rescale"},
    {"runs"},
    {"suffix", "attribution"},
    {"suffix_causal", "suffix_masked"},
    {"interventions"},
    {"method"},
    {"cross_model", "permutation"},
    {"selection"},
    {"truth"},
    {"sources", "metrics", "published"},
    {"record", "submissions", "measured", "rounds", "rankings"},
    {"secret"},
    {"hidden"},
    {"others", "archive", "passages", "submitted"},
    {"stored"},
    {"reading"},
    {"neuron_facts"},
    {"inspection"},
    {"ground", "resampling"},
    {"reruns", "recompute"},
    {"harness"},
    {"hidden_scoring"},
    {"results", "axes"},
    {"levels", "verdicts", "tournament"},
    {"boards", "difficulty", "gate"},
    {"comparison", "headtohead", "tables", "summary", "tidy", "notebook"},
    {"studies", "gap"},
    {"appendix", "views"},
    {"drilldown", "cards", "figures"},
    {"chart_specs"},
    {"charts"},
    {"page"},
    {"leaderboard"},
    {"plan", "report", "serve"},
    {"evaluation"},
    {"arena"},
    {"check", "scaffold"},
    {"given", "differences"},
    {"confined", "confined_job"},
    {"submitting"},
    {"validation"},
    {"catalogue"},
    {"calibration", "terminal"},
    {"cli_board", "cli_truth", "cli_studies", "cli_inspect", "cli_hidden", "cli_submit"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
METHOD_MAY_IMPORT = {"nibench", "numpy", "scipy", "sklearn", "torch", *sys.stdlib_module_names}


def top_level_name(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def runtime_imports(path: Path) -> set[str]:
    """Names of the nibench modules a file imports at run time, wherever in the file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "nibench":
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("nibench.")}
    return found


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "_bundled" not in p.parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = top_level_name(path)
    for imported in runtime_imports(path) - {own}:
        assert imported in LEVEL, f"{own} imports {imported}, which is on no layer of this test"
        assert LEVEL[imported] <= LEVEL[own], f"{own} imports {imported}, which lies above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_are_one_thing_each(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("methods/*.py"), *ROOT.glob("tasks/*.py")]), ids=lambda p: p.stem
)
def test_method_and_task_files_use_the_public_door_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0
            assert node.module == "nibench" or node.module.split(".")[0] in METHOD_MAY_IMPORT - {"nibench"}
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= METHOD_MAY_IMPORT - {"nibench"}


def test_importing_nibench_and_asking_for_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, nibench, nibench.cli; "
        "heavy = {'torch', 'transformers', 'sklearn', 'scipy', 'pandas', 'datasets', 'altair'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
