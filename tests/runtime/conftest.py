import pytest

from tests.runtime.harness import Runtime, build_library


@pytest.fixture(scope="session")
def runtime(tmp_path_factory) -> Runtime:
    return Runtime(build_library(tmp_path_factory.mktemp("runtime")))
