import pytest

from tests.runtime.harness import Runtime, build_library


@pytest.fixture(scope="session", params=[0, 1], ids=["", "small_core"])
def runtime(tmp_path_factory, request) -> Runtime:
    """Both forms of the kernels: that for cores with long multiplication, and that for those without."""
    return Runtime(build_library(tmp_path_factory.mktemp("runtime"), f"-DRCT_SMALL_CORE={request.param}"))
