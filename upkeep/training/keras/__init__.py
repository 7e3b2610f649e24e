"""``fine_tune``: Keras networks on TensorFlow, an extra that is imported where it is used."""
