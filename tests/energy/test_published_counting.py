"""tools/count_published: on small clones of the published form, whose counts are known."""

import pytest

from rct_tflite.errors import DataError
from tests.energy.published import commit
from tools.published_counting.run import counts, main
from tools.published_counting.stacks import MODELS, Pin, Stack, find_clones, repositories, take_out

FOLDER = "closed/some/code/board"
KERNEL = """
void arm_convolve_wrapper_s8(int turns);
void arm_convolve_wrapper_s8(int turns)
{
    __asm volatile("1: subs %0, #1\\n bne 1b" : "+l"(turns) : : "cc");
}
"""
HEADER = """
#include <stdint.h>
struct tvmgen_default_inputs { void *in; };
struct tvmgen_default_outputs { void *out; };
int32_t tvmgen_default_run(struct tvmgen_default_inputs *inputs, struct tvmgen_default_outputs *outputs);
void arm_convolve_wrapper_s8(int turns);
"""
GENERATED = """
#include "tvmgen_default.h"
__attribute__((noinline)) int tvmgen_default_first(void) { arm_convolve_wrapper_s8(1000); return 0; }
__attribute__((noinline)) int tvmgen_default_second(void) { arm_convolve_wrapper_s8(3000); return 0; }
__attribute__((noinline)) int tvmgen_default_third(void) { __asm volatile("nop"); return 0; }
int32_t tvmgen_default_run(struct tvmgen_default_inputs *inputs, struct tvmgen_default_outputs *outputs)
{
    (void)inputs;
    (void)outputs;
  if (tvmgen_default_first() != 0 ) return -1;
  if (tvmgen_default_second() != 0 ) return -1;
  if (tvmgen_default_third() != 0 ) return -1;
    return 0;
}
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Returns a stack and the clones that hold its sources."""
    folder = tmp_path_factory.mktemp("clones")
    generated = {}
    for model in MODELS:
        generated[f"{FOLDER}/{model}/include/tvmgen_default.h"] = HEADER
        generated[f"{FOLDER}/{model}/model/codegen/host/src/default_lib0.c"] = GENERATED
    kernels = {"CMSIS/NN/Source/ConvolutionFunctions/arm_convolve_wrapper_s8.c": KERNEL}
    results = Pin("results", commit(folder / "results", generated))
    cmsis = Pin("CMSIS_5", commit(folder / "CMSIS_5", kernels))
    stack = Stack("some stack", "cortex-m4", "TVM", results, FOLDER, cmsis, ("-O2",), ("-std=c99",))
    return stack, {name: folder / name / ".git" for name in ("results", "CMSIS_5")}


def test_models_and_layers_are_counted(published):
    found = {(count.model, count.layer): count.instructions for count in counts(*published)}
    assert set(found) == {(model, "") for model in MODELS} | {(m, layer) for m in ("vww", "kws") for layer in "01"}
    assert found["kws", "1"] - found["kws", "0"] == 2 * 2000  # two instructions a turn
    rest = found["kws", ""] - found["kws", "0"] - found["kws", "1"]
    assert 0 < rest < 100
    assert found["kws", ""] == found["ad", ""]


def test_a_clone_without_the_commit_is_refused(published, tmp_path):
    stack, clones = published
    with pytest.raises(DataError, match="Fetch it"):
        take_out(clones["results"], Pin("results", "0" * 40), [FOLDER], tmp_path)
    with pytest.raises(DataError, match="has no closed/none"):
        take_out(clones["results"], stack.generated, ["closed/none"], tmp_path)


def test_missing_clones_are_named(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert "git clone https://github.com/mlcommons/tiny_results_v0.5" in capsys.readouterr().err
    for name in repositories():
        (tmp_path / name).mkdir()
        (tmp_path / name / "HEAD").touch()  # a bare clone
    assert find_clones(tmp_path, repositories()) == {name: tmp_path / name for name in repositories()}
