from pathlib import Path

import pytest

from tests.runtime.harness import Runtime, build_library


@pytest.fixture(scope="session", params=[0, 1], ids=["", "small_core"])
def runtime(tmp_path_factory, run_folder: Path, request) -> Runtime:
    """Both forms of the kernels: that for cores with long multiplication, and that for those without."""
    library = run_folder / f"librct{request.param}.so"
    if not library.exists():
        built = build_library(tmp_path_factory.mktemp("runtime"), f"-DRCT_SMALL_CORE={request.param}")
        built.replace(library)
    return Runtime(library)
