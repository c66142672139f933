"""SpecGAN as a Keras model: where the original had a session loop.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 126-127 and 273-295.
"""

import contextlib
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf
from tensorflow.types.experimental import TensorLike

from specgan_tf import arguments, distribute, kernels, losses, tf1
from specgan_tf.files import StrPath

Optimizer = keras.optimizers.Optimizer | str | dict | None  # as compile takes it
Values = dict[str, tf.Tensor]  # scalars, by name


@keras.saving.register_keras_serializable(package="specgan_tf")
class SpecGAN(keras.Model):
    """A generator and a discriminator, trained against each other.

    A dataset yields one iteration at a time: float32 [disc_nupdates, b, 128, 128, 1]
    in [-1, 1], a real batch for each update of D. One update of G follows, which sees
    no real data. A step returns its own values (of D's updates, those of the last);
    `fit`'s history holds their means over the epoch.

    A subclass may override `update_D` and `update_G`. The values that they return
    become metrics.

    Args:
      G: generator, latents [b, latent_dim] -> [b, 128, 128, 1]: a `SpecGANGenerator`,
        or a model with its attributes.
      D: discriminator, [b, 128, 128, 1] -> logits [b]: a `SpecGANDiscriminator`, or a
        model with its attributes and methods.
      disc_nupdates: updates of D per update of G.
      seed: seed for latents and for the penalty's alpha; None draws one.

    Raises:
      ValueError: G and D are not a generator and a discriminator, in this order, or
        differ in slice_len; disc_nupdates is not a positive integer.

    Examples:
      >>> gan = SpecGAN(SpecGANGenerator(), SpecGANDiscriminator())
      >>> gan.compile(loss="wgan-gp")
      >>> history = gan.fit(dataset, steps_per_epoch=100).history
    """

    def __init__(
        self,
        G: keras.Model,
        D: keras.Model,
        disc_nupdates: int = 5,
        seed: int | None = None,
        name: str = "SpecGAN",
        **kwargs,
    ) -> None:
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        arguments.require_network("G", G, "SpecGANGenerator", arguments.GENERATOR)
        arguments.require_network(
            "D", D, "SpecGANDiscriminator", arguments.DISCRIMINATOR
        )
        arguments.require_positive_integer("disc_nupdates", disc_nupdates)
        self.frames = arguments.frames(G, D)
        self.G, self.D, self.disc_nupdates = G, D, int(disc_nupdates)
        self.seed_generator = keras.random.SeedGenerator(seed, name="seed_generator")
        self.trackers = {}
        self.average = None
        self.built = True  # G and D are built, and nothing else needs it

    def compile(
        self,
        loss: str | losses.Loss = "wgan-gp",
        G_optimizer: Optimizer = None,
        D_optimizer: Optimizer = None,
        mixed_precision: bool = False,
        jit_compile: bool = False,
        ema_momentum: float = 0.0,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        **unknown,
    ) -> None:
        """Choose the loss and the optimizers.

        Args:
          loss: "wgan-gp", "wgan", "lsgan" or "dcgan", or a `losses.Loss`.
          G_optimizer, D_optimizer: Keras optimizers, their names or configurations;
            None takes the loss's own. `optimizer.learning_rate` sets both rates, for
            Keras' callbacks: see `arguments.Optimizers`.
          mixed_precision: convolutions compute in bfloat16 while training; variables,
            dense layers, slopes and losses stay float32. (Not float16: bfloat16 has
            float32's range, so no loss needs scaling.) Logs a warning where it is
            slower than float32: see `kernels.fast_bfloat16`.
          jit_compile: compile a step with XLA.
          ema_momentum: in [0, 1); above 0, `G_ema` is an exponential moving average of
            G's weights. It starts from G's present weights, and each update of G
            updates it. 0.999 averages over about the last thousand updates.
          run_eagerly, steps_per_execution: as in `keras.Model.compile`.

        Raises:
          ValueError: unknown loss or optimizer; one optimizer for both networks; an
            argument that only `keras.Model.compile` takes, such as `optimizer` or
            `metrics`; ema_momentum outside [0, 1); batch norm with several replicas,
            which would each have their own statistics; a `floatx` other than float32.
        """
        if unknown:
            raise ValueError(
                f"compile takes no {', '.join(unknown)}: a SpecGAN has two optimizers, "
                "G_optimizer and D_optimizer, and its metrics are what update_D and "
                "update_G return"
            )
        arguments.require_training(loss, ema_momentum, self.G, self.D)
        if mixed_precision:
            kernels.warn_if_slow()
        spec = loss if isinstance(loss, losses.Loss) else losses.LOSSES[loss]
        G_optimizer = arguments.get_optimizer("G_optimizer", G_optimizer, spec)
        D_optimizer = arguments.get_optimizer("D_optimizer", D_optimizer, spec)
        if G_optimizer is D_optimizer:
            raise ValueError(
                "G_optimizer and D_optimizer must be two optimizers, as each keeps "
                f"values for its own network. Received: {G_optimizer!r} twice"
            )
        super().compile(
            optimizer=None,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
        )
        self.mixed_precision = mixed_precision
        self.loss_spec = spec
        self.loss_name = spec.name if isinstance(loss, losses.Loss) else loss
        self.G_optimizer, self.D_optimizer = G_optimizer, D_optimizer
        self.optimizer = arguments.Optimizers(G_optimizer, D_optimizer)
        names = "D_loss G_loss D_x D_G_z D_gradient_norm G_gradient_norm".split()
        if self.loss_spec.penalty:
            names += ["gradient_penalty", "slopes"]
        self.trackers = {}
        self.track(names)
        self.average = None
        if ema_momentum:
            self.average = tf1.ExponentialMovingAverage(self.G, ema_momentum)
        # Built now: an unbuilt optimizer has no variables to restore.
        self.G_optimizer.build(self.G.trainable_variables)
        self.D_optimizer.build(self.D.trainable_variables)

    def get_compile_config(self) -> dict:
        optimizers = {"G_optimizer": self.G_optimizer, "D_optimizer": self.D_optimizer}
        serialize = keras.saving.serialize_keras_object
        own = losses.LOSSES.get(self.loss_name) is not self.loss_spec
        return {
            "loss": serialize(self.loss_spec) if own else self.loss_name,
            "mixed_precision": self.mixed_precision,
            "jit_compile": self.jit_compile,
            "ema_momentum": self.average.decay if self.average else 0.0,
            **{k: serialize(o) for k, o in optimizers.items()},
        }

    def compile_from_config(self, config: dict) -> None:
        for name in ("G_optimizer", "D_optimizer", "loss"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        self.compile(**config)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self.trackers.values())

    @property
    def global_step(self) -> int:
        """The number of updates of G so far.  [train_specgan.py:274-275]"""
        return int(self.G_optimizer.iterations.numpy())

    # A property: Keras would add an attribute's variables to the model's weights.
    @property
    def G_ema(self) -> keras.Model | None:
        """The generator with averaged weights, or None without `ema_momentum`."""
        return self.average.network if self.average else None

    @property
    def generator(self) -> keras.Model:
        """The network to generate with: `G_ema` where there is one, else `G`."""
        return self.G if self.G_ema is None else self.G_ema

    def call(self, z: TensorLike, training: bool = False) -> tf.Tensor:
        """Generate: latents [b, latent_dim] -> spectrograms [b, 128, 128, 1]."""
        net = self.G if training else self.generator
        return net(z, training=training)

    def train_step(self, data: tf.Tensor | tuple) -> Values:
        """`disc_nupdates` updates of D on as many real batches, then one of G.

        data: x, or (x,): float32 [disc_nupdates, b, 128, 128, 1].
        [train_specgan.py:285-295]
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None or sample_weight is not None:
            raise ValueError(
                "a SpecGAN learns from spectrograms alone: its dataset must yield x or "
                f"(x,). Received: {len(data)} values"
            )
        x = arguments.checked(x, self.disc_nupdates, self.frames)
        batch_size = tf.shape(x)[1]
        for x_i in tf.unstack(x, self.disc_nupdates):
            values = self.update_D(x_i, self.draw_z(batch_size), self.draw_alpha(x_i))
        # original: G's update draws new latents and consumes no data.
        values |= self.update_G(self.draw_z(batch_size))
        if self.average:
            self.average.apply(self.G, self.G_optimizer.iterations)
        self.track(values)
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return distribute.returned(values)

    def track(self, names: Iterable[str]) -> None:
        """Track the means of these values, and of no others, for `fit` to report."""
        for name in self.trackers.keys() - set(names):
            del self.trackers[name]
        for name in names:
            if name not in self.trackers:
                with tf.init_scope():  # a step is being traced
                    metric = keras.metrics.Mean(name=name, dtype="float32")
                self.trackers[name] = metric

    def fit(
        self, x: tf.data.Dataset | None = None, *args, **kwargs
    ) -> keras.callbacks.History:
        """Train, as `keras.Model.fit` does, on a `tf.data.Dataset` of iterations.

        Args:
          x: a dataset of float32 [disc_nupdates, b, 128, 128, 1]: see `SpecGAN`.
          *args, **kwargs: as in `keras.Model.fit`, but `shuffle` is False by default.

        Raises:
          ValueError: x is an array or a generator, or its elements have another shape.
        """
        arguments.refuse_array(x, self.disc_nupdates, self.frames)
        if len(args) < 6:  # y, batch_size, epochs, verbose, callbacks, validation_split
            kwargs.setdefault("shuffle", False)
        try:
            return super().fit(x, *args, **kwargs)
        except tf.errors.InvalidArgumentError as e:
            message = arguments.incomplete(self.disc_nupdates, self.frames)
            if message not in str(e):
                raise
            raise ValueError(message) from None

    def export(self, filepath: StrPath, **kwargs) -> None:
        """Write a SavedModel of `generator`, latents -> spectrograms.

        For sound, save a checkpoint with its moments (`checkpoint.save`): export.py
        turns it into a SavedModel with Griffin-Lim, and into TFLite files.

        Args:
          filepath, **kwargs: as in `keras.Model.export`.
        """
        latents = tf.TensorSpec([None, self.G.latent_dim], tf.float32, name="z")
        kwargs = {"input_signature": [latents], **kwargs}
        self.generator.export(filepath, **kwargs)

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing needs to be built. Under a strategy Keras would consume a batch."""

    def test_step(self, x: object) -> None:
        raise NotImplementedError(
            "a SpecGAN has no evaluate, as its losses do not measure quality. Listen "
            "to its sounds, or score them (specgan_tf.eval.score)"
        )

    def draw_z(self, n: int | tf.Tensor) -> tf.Tensor:
        """Latents [n, latent_dim], uniform in [-1, 1].  [train_specgan.py:126-127]"""
        return self.draw(n, (self.G.latent_dim,), -1.0, 1.0)

    def draw_alpha(self, x: tf.Tensor) -> tf.Tensor:
        """[b, 1, 1, 1], uniform in [0, 1].  [train_specgan.py:226]"""
        return self.draw(tf.shape(x)[0], (1, 1, 1), 0.0, 1.0)

    def draw(
        self, n: int | tf.Tensor, shape: tuple[int, ...], low: float, high: float
    ) -> tf.Tensor:
        """[n, *shape], uniform in [low, high]; each replica gets its own rows."""
        seed = self.seed_generator
        return distribute.rows(
            lambda n: keras.random.uniform((n, *shape), low, high, "float32", seed), n
        )

    def D_loss(
        self, x: tf.Tensor, z: tf.Tensor, alpha: tf.Tensor | None
    ) -> tuple[tf.Tensor, Values]:
        """(D's loss [], values to report), from one real and one generated batch."""
        # original: G runs in training mode, so D's updates also move the moving
        # averages of its batch norms.
        with self.precision():
            G_z = tf.stop_gradient(self.G(z, training=True))
            if self.D.use_batchnorm:  # each batch has its own statistics
                D_x, D_G_z = self.D(x), self.D(G_z)
            else:  # the same values, faster
                features = tf.split(self.D.features(tf.concat([x, G_z], axis=0)), 2)
                # Separately: otherwise the gradient of wgan's last bias would be a
                # rounding error instead of zero, and Adam would take steps with it.
                D_x, D_G_z = map(self.D.logits, features)
            if self.loss_spec.penalty:
                penalty, slopes = losses.gradient_penalty(self.D, x, G_z, alpha)
        loss = self.loss_spec.D(D_x, D_G_z)
        values = {"D_x": tf.reduce_mean(D_x), "D_G_z": tf.reduce_mean(D_G_z)}
        if self.loss_spec.penalty:
            loss += self.loss_spec.penalty * penalty
            values["gradient_penalty"] = penalty
            values["slopes"] = tf.reduce_mean(slopes)
        return loss, {"D_loss": loss, **values}

    def G_loss(self, z: tf.Tensor) -> tf.Tensor:
        """G's loss [], from one batch of latents."""
        with self.precision():
            return self.loss_spec.G(self.D(self.G(z, training=True)))

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Context: convolutions compute in bfloat16, if `mixed_precision`.

        Not dense layers: bfloat16 would save nothing, and round logits to 3 digits.
        """
        blocks = [*self.G.upconvs, *self.D.downconvs] if self.mixed_precision else []
        layers = [layer for block in blocks for layer in block._flatten_layers()]
        policies = [layer.dtype_policy for layer in layers]
        try:
            for layer in layers:
                layer.dtype_policy = "mixed_bfloat16"
            with kernels.shared_casts():
                yield
        finally:
            for layer, policy in zip(layers, policies, strict=True):
                layer.dtype_policy = policy

    def update_D(self, x: tf.Tensor, z: tf.Tensor, alpha: tf.Tensor) -> Values:
        """One update of D.

        Args:
          x: real spectrograms, [b, 128, 128, 1].
          z: latents, [b, latent_dim].
          alpha: [b, 1, 1, 1], used by wgan-gp: see `losses.gradient_penalty`.

        Returns:
          dict of scalars: D_loss, D_x, D_G_z, D_gradient_norm; with wgan-gp also
          gradient_penalty and slopes. With several replicas each returns the values
          for its own rows, and `fit` averages them.
        """
        with tf.GradientTape() as tape:
            loss, values = self.D_loss(x, z, alpha)
        D_vars = self.D.trainable_variables
        gradients = tape.gradient(loss, D_vars)
        values["D_gradient_norm"] = tf.linalg.global_norm(gradients)
        self.D_optimizer.apply(distribute.shares(gradients), D_vars)
        # Enforce Lipschitz constraint for WGAN  [train_specgan.py:290-292]
        # original: biases and batch norm's gammas are clipped too.
        if self.loss_spec.clip:
            for v in D_vars:
                v.assign(tf.clip_by_value(v, -self.loss_spec.clip, self.loss_spec.clip))
        return values

    def update_G(self, z: tf.Tensor) -> Values:
        """One update of G.

        Args:
          z: latents, [b, latent_dim].

        Returns:
          dict of scalars: G_loss, G_gradient_norm.
        """
        with tf.GradientTape() as tape:
            loss = self.G_loss(z)
        G_vars = self.G.trainable_variables
        gradients = tape.gradient(loss, G_vars)
        self.G_optimizer.apply(distribute.shares(gradients), G_vars)
        return {"G_loss": loss, "G_gradient_norm": tf.linalg.global_norm(gradients)}

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "G": keras.saving.serialize_keras_object(self.G),
            "D": keras.saving.serialize_keras_object(self.D),
            "disc_nupdates": self.disc_nupdates,
        }

    @classmethod
    def from_config(cls, config: dict) -> "SpecGAN":
        for net in ("G", "D"):
            config[net] = keras.saving.deserialize_keras_object(config[net])
        return cls(**config)
