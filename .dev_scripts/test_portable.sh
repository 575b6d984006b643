#!/bin/sh
# Run the tests that compare floating-point results as on other processors: with the kernels of the
# machine, of SSE4.1 and of AVX2, each with one thread and with two. Stops at the first failure.
# Usage: test_portable.sh PYTHON [options of pytest]
set -eu

python=$1
shift

# What compares results; whole trainings, errors and files are left to the other tests.
tests='
tests/models
tests/mmcv_ops/test_ops.py
tests/mmcv_ops/test_detectors.py::test_mmdet_focal_loss_as_on_a_gpu
tests/integration
tests/export/test_onnx.py::test_onnx_runtime_gives_the_students_logits
tests/export/test_student.py::test_exported_classifier_is_a_stock_model_with_the_same_logits
tests/export/test_student_detection.py::test_exported_detector_predicts_the_same
tests/inference/test_attention.py
tests/inference/test_attention_reader.py
tests/inference/test_classifier.py
tests/engine/optimizers
tests/engine/hooks/test_check_teacher_hook.py::test_the_teacher_predicts_in_eval_mode_on_its_own_normalisation
tests/tools/test_detectron2_to_mmdet.py::test_retinanet_computes_what_detectron2_does
tests/tools/test_detectron2_to_mmdet.py::test_mask_rcnn_computes_what_detectron2_does
tests/tools/test_repdistiller_to_mmpretrain.py::test_the_converted_classifier_is_the_network_of_the_file
tests/tools/test_torchvision_to_mmpretrain.py::test_the_stock_classifier_computes_what_torchvision_does
tests/tools/test_step_models.py
--ignore=tests/integration/test_distiller_long_run.py
--ignore=tests/models/distillers/test_bad_input.py
--ignore=tests/models/distillers/test_distiller_errors.py
--ignore=tests/models/distillers/test_distiller_loading.py
--ignore=tests/models/distillers/test_model_source.py
'

log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() {
    kernels=$1 threads=$2 workers=$3
    shift 3
    setting="$kernels kernels, $threads thread(s)"
    export OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads"
    # shellcheck disable=SC2086  # a list of words
    if "$python" -m pytest -q -x -n "$workers" $tests "$@" >"$log" 2>&1; then
        echo "$setting: $(tail -n 1 "$log")"
    else
        cat "$log"
        echo "failed with $setting" >&2
        exit 1
    fi
}

for kernels in own SSE4.1 AVX2; do
    # What torch's own kernels and oneDNN's may use.
    case $kernels in
        SSE4.1) export ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 ;;
        AVX2) export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ;;
    esac
    # Workers times threads are two.
    run "$kernels" 1 2 "$@"
    run "$kernels" 2 0 "$@"
done
