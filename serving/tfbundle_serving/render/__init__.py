"""The files of docker/, filled from a models.config: `tfbundle render`."""
