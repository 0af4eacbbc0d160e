"""Settings outside of the configuration that change what the libraries compute.

Such a setting is part of the name of a run, of an evaluation and of cached results, so that two
settings never share one. Without any, names are as if this module did not exist. What only changes
the order of sums, such as the number of threads or the model of a processor, is recorded with the
machine instead.
"""

import os
import sys
from collections.abc import Mapping

VARIABLES = (
    # torch and its libraries: number formats and algorithms
    "ATEN_CPU_CAPABILITY", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_BLAS_PREFER_HIPBLASLT", "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "TORCH_CUDNN_V8_API_DISABLED", "TORCH_LINALG_PREFER_CUSOLVER", "TORCH_LINALG_PREFER_HIPSOLVER",
    "TORCH_LINEAR_FLATTEN_3D", "TORCH_MKLDNN_MATMUL_MIN_DIM", "TORCH_MKLDNN_MATMUL_MIN_SIZE",
    "TORCH_ROCM_FA_PREFER_CK", "DISABLE_ADDMM_CUDA_LT", "PYTORCH_MIOPEN_SUGGEST_NHWC",
    "PYTORCH_MIOPEN_SUGGEST_NHWC_BATCHNORM", "PYTORCH_MPS_FAST_MATH", "PYTORCH_MPS_PREFER_METAL",
    "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "KMP_DETERMINISTIC_REDUCTION",
    "MKL_CBWR", "MKL_DISABLE_FAST_MM", "MKL_ENABLE_INSTRUCTIONS",
    "DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA",
    "ONEDNN_MAX_CPU_ISA", "OV_CPU_LEGACY_ATTN", "OV_CPU_MAX_ISA", "ORT_DISABLE_FLASH_ATTENTION",
    "XLA_DOWNCAST_BF16", "XLA_USE_BF16",
    # transformers and timm: other implementations of attention and layers
    "FLASH_ATTENTION_DETERMINISTIC", "TIMM_FUSED_ATTN", "TIMM_USE_NAFLEX", "TIMM_USE_NAFLEXVIT",
    "TIMM_USE_SCIPY_INTERP", "TRANSFORMERS_DISABLE_DEEPGEMM_LINEAR", "TRANSFORMERS_SDPA_FORCE_GQA",
    "USE_HUB_KERNELS",
    # torch.compile: other arithmetic, random numbers or no compilation at all
    "TORCHINDUCTOR_CPP_ENABLE_UNSAFE_MATH_OPT_FLAG", "TORCHINDUCTOR_CPP_USE_DECOMPOSE_TANH",
    "TORCHINDUCTOR_EMULATE_DIVISION_ROUNDING", "TORCHINDUCTOR_EMULATE_PRECISION_CASTS",
    "TORCHINDUCTOR_EMULATE_PRECISION_CASTS_ON_SAVED_TENSORS", "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_LITE_MODE", "TORCHINDUCTOR_NUMERICS", "TORCHINDUCTOR_USE_FAST_MATH",
    "TORCHINDUCTOR_USE_RAND4X", "TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE",
    "TORCH_COMPILE_OVERRIDE_BACKENDS",
)  # fmt: skip
"""Environment variables that change the arithmetic, or choose between implementations."""


def arithmetic_settings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the settings that are in effect, by name; empty in an ordinary environment.

    Besides `VARIABLES`, these are torch's switches for precision and determinism, where a program
    has changed them.

    Args:
        environ: The environment; None is the process's own.
    """
    environ = os.environ if environ is None else environ
    found = {name: value for name in VARIABLES if (value := environ.get(name, "").strip())}
    return found | _torch_switches()


def with_arithmetic(facts: Mapping[str, object]) -> dict[str, object]:
    """Return the facts that name a result, with `arithmetic_settings` if there are any."""
    settings = arithmetic_settings()
    return {**facts, "arithmetic": settings} if settings else dict(facts)


def _torch_switches() -> dict[str, str]:
    """Return torch's switches that differ from their defaults; none if torch is not imported."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    backends = torch.backends
    switches = (
        ("default_dtype", torch.get_default_dtype(), torch.float32),
        ("float32_matmul_precision", torch.get_float32_matmul_precision(), "highest"),
        ("deterministic_algorithms", torch.are_deterministic_algorithms_enabled(), False),
        ("cudnn_allow_tf32", backends.cudnn.allow_tf32, True),
        ("cudnn_benchmark", backends.cudnn.benchmark, False),
        ("cudnn_deterministic", backends.cudnn.deterministic, False),
    )
    return {f"torch.{name}": str(value) for name, value, default in switches if value != default}
