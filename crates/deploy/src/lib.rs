//! Plans a deployment as data, then executes it step by step.
