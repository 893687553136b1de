"""Version folders travel: `tfbundle push` to a store, `tfbundle pull` from one, each file held against its hash.

Nothing here needs TensorFlow, so that an init container does with `pip install 'tfbundle[remote]'`.
"""
