"""Runs a classifier from the reference's files: a MetaGraph and its checkpoint.

Port of eval/inception/score.py (chrisdonahue/wavegan 40e85e8), lines 91-164.
"""

import logging
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from specgan_tf import spectral
from specgan_tf.errors import InputError
from specgan_tf.eval import classifier
from specgan_tf.weights import folders
from specgan_tf.weights.tensors import Checkpoint

log = logging.getLogger("specgan_tf")


class MetaGraph:
    """A classifier in the original's files: a MetaGraph, and a checkpoint.

    differs: the original runs everything in the two files. Here only the path from
    `x:0` [n, 16384] to `scores:0` [n, classes] runs, with the checkpoint's values in
    place of variables; operations with side effects are refused.
    [train_specgan.py:497-503]
    """

    def __init__(
        self,
        graph_def: tf.compat.v1.GraphDef,
        graph: tf.types.experimental.ConcreteFunction,
        labels: Sequence[str],
        has_features: bool,
    ):
        self.graph_def, self.graph = graph_def, graph
        self.labels, self.has_features = labels, has_features

    @classmethod
    def load(cls, metagraph_fp: str, ckpt_fp: str) -> "MetaGraph":
        """Read the two files that the original's --incept_... flags name.

        Raises:
          InputError: a file is missing or damaged, the graph has no `x` or `scores`,
            the checkpoint lacks a variable, or an operation has side effects.

        [score.py:27-40]
        """
        if not os.path.isfile(metagraph_fp):
            raise InputError(
                f"no MetaGraph at {metagraph_fp}; a classifier that the classifier "
                "mode trained goes to --incept_classifier"
            )
        try:
            with open(metagraph_fp, "rb") as f:
                said = tf.compat.v1.MetaGraphDef.FromString(f.read()).graph_def
        except Exception:  # protobuf raises several kinds
            raise InputError(f"{metagraph_fp} is not a MetaGraph") from None
        nodes = {node.name: node for node in said.node}
        missing = [f"{name}:0" for name in ("x", "scores") if name not in nodes]
        if missing:
            raise InputError(
                f"{metagraph_fp} has no {' and no '.join(missing)}: it must lead from "
                "x:0 [n, 16384] to scores:0 [n, classes]"
            )
        ckpt = Checkpoint(folders.require(ckpt_fp))
        graph_def = tf.compat.v1.GraphDef(versions=said.versions)
        names = upstream(nodes, "scores")
        graph_def.node.extend(frozen(nodes[name], ckpt, ckpt_fp) for name in names)
        has_features = classifier.FEATURES in names
        outputs = ["scores:0"] + [f"{classifier.FEATURES}:0"] * has_features
        try:
            whole = tf.compat.v1.wrap_function(
                lambda: tf.compat.v1.import_graph_def(graph_def, name=""), []
            )
            ops = whole.graph.get_operations()
            effects = {op.type for op in ops if op.op_def.is_stateful}
            if effects:
                raise InputError(
                    f"{metagraph_fp} holds {', '.join(sorted(effects))}: only "
                    "operations without side effects are run"
                )
            graph = whole.prune("x:0", outputs)
            scores = graph(tf.zeros([1, spectral.SLICE_LEN]))[0]
        except (ValueError, TypeError, tf.errors.OpError) as e:
            if isinstance(e, InputError):
                raise
            reason = str(e).strip().splitlines()[0]
            raise InputError(f"{metagraph_fp} cannot be run: {reason}") from None
        labels = map(str, range(scores.shape[-1]))
        if "labels" in nodes and nodes["labels"].op == "Const":
            named = tf.make_ndarray(nodes["labels"].attr["value"].tensor)
            labels = (label.decode(errors="replace") for label in named)
        return cls(graph_def, graph, list(labels), has_features)

    def probabilities(self, x: ArrayLike) -> np.ndarray:
        """Waveforms [n, 16384(, 1)] -> float32 [n, classes]."""
        return np.concatenate(
            [self.graph(tf.constant(c))[0] for c in classifier.chunks(x)]
        )

    def features(self, x: ArrayLike) -> np.ndarray | None:
        """As `Classifier.features`; None if the graph is not the original's."""
        if not self.has_features:
            return None
        made = [self.graph(tf.constant(c))[1] for c in classifier.chunks(x)]
        return np.concatenate(made).mean(axis=(1, 2))

    def digest(self) -> str:
        """Checksum of the graph and its weights."""
        return classifier.digest([self.graph_def.SerializeToString(deterministic=True)])


def upstream(nodes: dict[str, tf.compat.v1.NodeDef], name: str) -> list[str]:
    """Names of the nodes that the node `name` is computed from, `name` first."""
    found, waiting = {}, [name]
    while waiting:
        name = waiting.pop()
        if name not in found and name in nodes:  # import_graph_def reports the missing
            found[name] = True
            waiting += [data.partition(":")[0] for data in data_inputs(nodes[name])]
    return list(found)


def data_inputs(node: tf.compat.v1.NodeDef) -> list[str]:
    """A node's inputs, without control inputs: checks, prints, assignments."""
    return [name for name in node.input if not name.startswith("^")]


def frozen(
    node: tf.compat.v1.NodeDef, ckpt: Checkpoint, prefix: str
) -> tf.compat.v1.NodeDef:
    """Copy a node; a variable becomes a constant of its value in the checkpoint.

    Raises:
      InputError: the checkpoint, at `prefix`, lacks the variable or is damaged.
    """
    new = tf.compat.v1.NodeDef()
    new.CopyFrom(node)
    new.ClearField("input")
    new.input.extend(data_inputs(node))
    if node.op == "ReadVariableOp":
        new.op = "Identity"
        new.attr["T"].CopyFrom(node.attr["dtype"])
        del new.attr["dtype"]
    elif node.op in ("Variable", "VariableV2", "VarHandleOp"):
        try:
            value = ckpt[node.name]
        except InputError:
            raise InputError(
                f"{prefix} lacks {node.name}, or is damaged: it must be a checkpoint "
                "of this MetaGraph"
            ) from None
        new = tf.compat.v1.NodeDef(name=node.name, op="Const")
        new.attr["dtype"].CopyFrom(node.attr["dtype"])
        new.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return new
