"""SpecGAN as a Keras model: where the original had a session loop.

Port of train_specgan.py (chrisdonahue/wavegan 40e85e8), lines 126-127 and 273-295.
"""

import contextlib

import keras
import tensorflow as tf

from specgan_tf import distribute, kernels, losses


@keras.saving.register_keras_serializable(package="specgan_tf")
class SpecGAN(keras.Model):
    """A generator and a discriminator, trained against each other.

    >>> gan = SpecGAN(SpecGANGenerator(), SpecGANDiscriminator())
    >>> gan.compile(loss="wgan-gp")
    >>> gan.fit(dataset)  # of float32 [disc_nupdates, b, 128, 128, 1] in [-1, 1]

    Each element of the dataset is one iteration: `disc_nupdates` real batches, one for
    each update of D, and one update of G, which sees no real data. What a step returns
    is that iteration's own values (D's are its last update's); `fit`'s history holds
    their means over the epoch.

    Args:
      G: generator, latents [b, latent_dim] -> [b, 128, 128, 1].
      D: discriminator, [b, 128, 128, 1] -> logits [b].
      disc_nupdates: updates of D per update of G.
      seed: of the latents and of the penalty's alpha; None draws one.
    """

    def __init__(self, G, D, disc_nupdates=5, seed=None, name="SpecGAN", **kwargs):
        super().__init__(name=name, **kwargs)
        if disc_nupdates < 1:
            raise ValueError(
                f"disc_nupdates must be a positive integer. Received: {disc_nupdates!r}"
            )
        self.G, self.D, self.disc_nupdates = G, D, disc_nupdates
        self.seed_generator = keras.random.SeedGenerator(seed, name="seed_generator")
        self.trackers = {}
        self.built = True  # G and D are; nothing else is to be built

    def compile(
        self,
        loss="wgan-gp",
        G_optimizer=None,
        D_optimizer=None,
        mixed_precision=False,
        jit_compile=False,
        **kwargs,
    ):
        """Choose the loss, and the original's optimizers for it or others.

        Args:
          loss: "wgan-gp", "wgan", "lsgan" or "dcgan".
          G_optimizer, D_optimizer: Keras optimizers; None takes the loss's own.
          mixed_precision: convolutions compute in bfloat16 while training, but for the
            gradient penalty's; variables, dense layers, losses are float32 as ever.
            (Not float16: bfloat16 has float32's range, so no loss is to be scaled.)
          jit_compile: compile a step with XLA.
          **kwargs: of `keras.Model.compile`.

        Raises:
          ValueError: unknown loss; batch norm under a strategy of several replicas,
            each of which would have statistics of its own.
        """
        if loss not in losses.LOSSES:
            raise ValueError(
                f"loss must be one of {sorted(losses.LOSSES)}. Received: {loss!r}"
            )
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1 and (self.G.use_batchnorm or self.D.use_batchnorm):
            raise ValueError(
                "networks with batch norm must be trained by one replica, which sees "
                f"whole batches. Received: a strategy of {replicas}"
            )
        # Two optimizers of its own instead of Keras' one.
        super().compile(**{"optimizer": None, "jit_compile": jit_compile, **kwargs})
        self.mixed_precision = mixed_precision
        self.loss_name, self.loss_spec = loss, losses.LOSSES[loss]
        self.G_optimizer = G_optimizer or self.loss_spec.optimizer()
        self.D_optimizer = D_optimizer or self.loss_spec.optimizer()
        names = ["D_loss", "G_loss", "D_x", "D_G_z"]
        names += ["D_gradient_norm", "G_gradient_norm"]
        if self.loss_spec.penalty:
            names += ["gradient_penalty", "slopes"]
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}
        # Built now: an unbuilt optimizer has no variables to restore.
        self.G_optimizer.build(self.G.trainable_variables)
        self.D_optimizer.build(self.D.trainable_variables)

    def get_compile_config(self):
        optimizers = {"G_optimizer": self.G_optimizer, "D_optimizer": self.D_optimizer}
        serialize = keras.saving.serialize_keras_object
        return {
            "loss": self.loss_name,
            "mixed_precision": self.mixed_precision,
            "jit_compile": self.jit_compile,
            **{k: serialize(o) for k, o in optimizers.items()},
        }

    def compile_from_config(self, config):
        for name in ("G_optimizer", "D_optimizer"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        self.compile(**config)

    @property
    def metrics(self):
        return list(self.trackers.values())

    @property
    def global_step(self):
        """Updates of G so far.  [train_specgan.py:274-275]"""
        return int(self.G_optimizer.iterations.numpy())

    def call(self, z, training=False):
        """Generate: latents [b, latent_dim] -> spectrograms [b, 128, 128, 1]."""
        return self.G(z, training=training)

    def train_step(self, data):
        """`disc_nupdates` updates of D on as many real batches, then one of G.

        data: x, or (x,): float32 [disc_nupdates, b, 128, 128, 1].
        [train_specgan.py:285-295]
        """
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        wanted = tf.TensorShape([self.disc_nupdates, None, 128, 128, 1])
        if not wanted.is_compatible_with(x.shape):
            raise ValueError(
                f"each element of the dataset must have shape [disc_nupdates, b, 128, "
                f"128, 1], here {wanted}. Received: {x.shape}"
            )
        batch_size = tf.shape(x)[1]
        for x_i in tf.unstack(x, self.disc_nupdates):
            values = self.update_D(x_i, self.draw_z(batch_size), self.draw_alpha(x_i))
        # original: G's update draws new latents and consumes no data.
        values |= self.update_G(self.draw_z(batch_size))
        for name, value in values.items():
            self.trackers[name].update_state(value)
        return distribute.returned(values)

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing is to be built. Under a strategy Keras would take a batch to see."""

    def test_step(self, x):
        raise NotImplementedError(
            "a SpecGAN has no evaluate: its losses are one network's opinion of the "
            "other. Listen to, or score, what it generates"
        )

    def draw_z(self, n):
        """Latents [n, latent_dim], uniform in [-1, 1].  [train_specgan.py:126-127]"""
        return self.draw(n, (self.G.latent_dim,), -1.0, 1.0)

    def draw_alpha(self, x):
        """[b, 1, 1, 1], uniform in [0, 1].  [train_specgan.py:226]"""
        return self.draw(tf.shape(x)[0], (1, 1, 1), 0.0, 1.0)

    def draw(self, n, shape, low, high):
        """[n, *shape], uniform; of several replicas each has rows of its own."""
        seed = self.seed_generator
        return distribute.rows(
            lambda n: keras.random.uniform((n, *shape), low, high, seed=seed), n
        )

    def D_loss(self, x, z, alpha):
        """D's loss [] and the values to report, from one batch of each."""
        # original: G runs in training mode, so with batch norm its moving averages
        # move in D's updates too.
        with self.precision():
            G_z = tf.stop_gradient(self.G(z, training=True))
            if self.D.use_batchnorm:  # each batch has statistics of its own
                D_x, D_G_z = self.D(x), self.D(G_z)
            else:  # the same values, faster
                features = tf.split(self.D.features(tf.concat([x, G_z], axis=0)), 2)
                # Not of both at once: the gradient of wgan's last bias would be a
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

    def G_loss(self, z):
        """G's loss [], from one batch of latents."""
        with self.precision():
            return self.loss_spec.G(self.D(self.G(z, training=True)))

    @contextlib.contextmanager
    def precision(self):
        """For the block: convolutions compute in bfloat16, if this is mixed precision.

        Dense layers do not: bfloat16 would save nothing and leave logits three digits.
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

    def update_D(self, x, z, alpha):
        """One update of D.

        x: [b, 128, 128, 1]; z: [b, latent_dim]; alpha: [b, 1, 1, 1], used by wgan-gp.

        Returns:
          dict of scalars: D_loss, D_x, D_G_z, D_gradient_norm, of wgan-gp also
          gradient_penalty, slopes. A replica's are those of its own rows, and `fit`
          takes their means; the norm then is that of smaller batches' gradients.
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

    def update_G(self, z):
        """One update of G. z: [b, latent_dim]. Scalars: G_loss, G_gradient_norm."""
        with tf.GradientTape() as tape:
            loss = self.G_loss(z)
        G_vars = self.G.trainable_variables
        gradients = tape.gradient(loss, G_vars)
        self.G_optimizer.apply(distribute.shares(gradients), G_vars)
        return {"G_loss": loss, "G_gradient_norm": tf.linalg.global_norm(gradients)}

    def get_config(self):
        return {
            "name": self.name,
            "G": keras.saving.serialize_keras_object(self.G),
            "D": keras.saving.serialize_keras_object(self.D),
            "disc_nupdates": self.disc_nupdates,
        }

    @classmethod
    def from_config(cls, config):
        for net in ("G", "D"):
            config[net] = keras.saving.deserialize_keras_object(config[net])
        return cls(**config)
