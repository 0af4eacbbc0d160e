"""Keep accelerate's environment variables and configuration file from changing a result.

`accelerate launch` turns its options and configuration file into environment variables, which
`Accelerator` reads behind the back of the configuration. What decides a result comes from hf_wbc's
own options; a request for another way of training is refused.
"""

import os
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

_FEATURES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker",
}
"""Ways of training that hf_wbc does not support, by the variable that requests them."""
_OWN_OPTIONS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "--gradient-accumulation-steps",
    "ACCELERATE_GRADIENT_CLIPPING": "--max-grad-norm",
    "ACCELERATE_MIXED_PRECISION": "--mixed-precision",
    "ACCELERATE_TORCH_DEVICE": "CUDA_VISIBLE_DEVICES",
    "ACCELERATE_DYNAMO_BACKEND": "",
    "ACCELERATE_DOWNCAST_BF16": "",
}
"""Ignored variables that change a result, and what to use instead, if there is anything."""
_KEPT = frozenset({"ACCELERATE_USE_CPU", "ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE"})
_NEUTRAL = frozenset({"", "0", "1", "1.0", "no", "none", "false", "default"})
"""Lowercase values that `accelerate launch` sets for what nobody has asked for."""
_COUNTS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@contextmanager
def only_own_settings(
    mixed_precision: str, environ: MutableMapping[str, str] | None = None
) -> Iterator[None]:
    """Hide accelerate's variables that change a result while an `Accelerator` is created.

    A variable with a value of its own is ignored with a warning that names hf_wbc's option.

    Args:
        mixed_precision: The precision of hf_wbc's own configuration.
        environ: The environment; None is the process's own.

    Raises:
        ValueError: If a variable requests DeepSpeed, FSDP, Megatron-LM, another parallelism or
            SageMaker, or describes the processes in a way that is no number.
    """
    environ = os.environ if environ is None else environ
    _check(environ)
    hidden = {
        name: value
        for name, value in environ.items()
        if name.startswith("ACCELERATE_") and name not in _KEPT
    }
    for name, value in sorted(hidden.items()):
        is_same = name == "ACCELERATE_MIXED_PRECISION" and value == mixed_precision
        if name in _OWN_OPTIONS and value.strip().lower() not in _NEUTRAL and not is_same:
            instead = f"; use {_OWN_OPTIONS[name]}" if _OWN_OPTIONS[name] else ""
            warnings.warn(f"{name}={value} is ignored{instead}", stacklevel=3)
        del environ[name]
    try:
        yield
    finally:
        environ.update(hidden)


def _check(environ: MutableMapping[str, str]) -> None:
    for name, feature in _FEATURES.items():
        if environ.get(name, "").strip().lower() in ("1", "true", "yes", "on", "y", "t"):
            raise ValueError(
                f"{name}={environ[name]} requests {feature}, which hf_wbc does not support; unset "
                "the variable, or launch with an accelerate configuration without it"
            )
    for name in _COUNTS:
        value = environ.get(name)
        if value is not None and not value.strip().lstrip("-").isdecimal():
            raise ValueError(
                f"{name} is {value!r}, which is no number; unset it, or start several processes "
                "with torchrun or accelerate launch"
            )
