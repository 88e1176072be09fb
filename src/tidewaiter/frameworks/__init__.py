"""What is known of TensorFlow, CUDA, cuDNN, drivers and GPUs: data files with their sources, and look-ups."""
