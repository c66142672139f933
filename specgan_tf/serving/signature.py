"""A function of a SavedModel, as the server calls it."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(eq=False)
class Signature:
    """One of a SavedModel's functions."""

    name: str
    function: Callable
    inputs: dict[str, tuple]  # name -> (dtype, shape with None for the rows)
    outputs: list[str]

    @classmethod
    def of(cls, name: str, function: Callable) -> "Signature":
        _, specs = function.structured_input_signature
        inputs = {
            key: (np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape.as_list()))
            for key, spec in sorted(specs.items())
        }
        return cls(name, function, inputs, sorted(function.structured_outputs))

    def __call__(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays by name -> arrays by name."""
        import tensorflow as tf

        made = self.function(**{k: tf.constant(v) for k, v in tensors.items()})
        return {name: np.array(tensor) for name, tensor in made.items()}

    def example_inputs(self) -> dict[str, np.ndarray] | None:
        """Inputs with one row, for the first call; None if it takes strings."""
        if any(dtype.kind == "O" for dtype, _ in self.inputs.values()):
            return None
        return {
            name: (np.zeros if shape else np.ones)([n or 1 for n in shape], dtype)
            for name, (dtype, shape) in self.inputs.items()
        }
