"""Pipeline files for tests."""

from __future__ import annotations

MINIMAL = """\
pipeline: {name: smallest}
data: {dataset_id: numbers}
model: {id: MLP, config: {in_features: 4, num_classes: 2}}
trigger: {id: DataAmountTrigger, num_samples: 100}
"""

PUBLISHED = """\
pipeline:
  name: published style
  description: Every key of the published schema that this release can run.
  version: 0.0.1
model:
  id: ResNet18
  config:
    num_classes: 10
    use_pretrained: false
model_storage:
  full_model_strategy:
    name: PyTorchFullModel
    zip: true
    zip_algorithm: ZIP_DEFLATED
    config: {}
  incremental_model_strategy:
    name: WeightsDifference
    full_model_interval: 5
    config: {operator: sub, rle: false}
data:
  dataset_id: pictures
  bytes_parser_function: |
    import io
    from PIL import Image

    def bytes_parser_function(data: memoryview) -> Image:
        return Image.open(io.BytesIO(data)).convert("RGB")
  transformations:
    - transforms.ToTensor()
    - transforms.Normalize((0.5,), (0.5,))
  label_transformer_function: |
    def label_transformer_function(labels):
        return labels.long()
training:
  gpus: 1
  epochs_per_trigger: 2
  num_samples_to_pass: [1000, 500]
  num_prefetched_partitions: 2
  parallel_prefetch_requests: 2
  device: cuda:0
  amp: true
  dataloader_workers: 4
  batch_size: 32
  drop_last_batch: true
  shuffle: true
  enable_accurate_gpu_measurements: true
  use_previous_model: true
  seed: 42
  initial_model: pretrained
  initial_model_id: 12
  checkpointing: {activated: false}
  record_loss_every: 10
  grad_scaler_config: {growth_interval: 200}
  optimizers:
    - name: body
      algorithm: SGD
      source: PyTorch
      param_groups:
        - module: model
          config: {lr: 0.1, momentum: 0.001}
  optimization_criterion:
    name: CrossEntropyLoss
  lr_scheduler:
    name: CosineAnnealingLR
    source: PyTorch
    step_every: batch
    optimizers: [body]
    config: {T_max: MODYN_NUM_BATCHES}
trigger:
  id: TimeTrigger
  every: 1d
  start_timestamp: 100000
selection_strategy:
  name: CoresetStrategy
  maximum_keys_in_memory: 1000
  processor_type: null
  limit: -1
  storage_backend: database
  uses_weights: true
  tail_triggers: 3
  warmup_triggers: 1
  presampling_config:
    strategy: Random
    ratio: 50
    ratio_max: 100
    force_column_balancing: false
    force_required_target_size: false
  downsampling_config:
    strategy: "No"
    ratio: 100
evaluation:
  device: cpu
  after_training_evaluation_workers: 5
  after_pipeline_evaluation_workers: 5
  handlers:
    - name: at once
      execution_time: after_training
      models: matrix
      strategy: {type: StaticEvalStrategy, intervals: [[0, 100], [100, null]]}
      datasets: [pictures]
    - execution_time: after_pipeline
      models: active
      strategy: {type: SlicingEvalStrategy, eval_every: 1d, eval_start_from: 0, eval_end_at: 1000000}
      datasets: [pictures, other pictures]
    - execution_time: manual
      models: training
      strategy:
        type: PeriodicEvalStrategy
        every: 1w
        interval: "[-3d; +3d]"
        start_timestamp: 0
        end_timestamp: 10000000
      datasets: [other pictures]
  datasets:
    - dataset_id: pictures
      bytes_parser_function: |
        def bytes_parser_function(data):
            return data
      batch_size: 64
      dataloader_workers: 2
      metrics:
        - name: Accuracy
          topn: 1
          evaluation_transformer_function: ""
        - name: F1Score
          num_classes: 10
          average: macro
          pos_label: 1
    - dataset_id: other pictures
      bytes_parser_function: "def bytes_parser_function(data): return data"
      batch_size: 64
      dataloader_workers: 2
      metrics:
        - name: Accuracy
          topn: 5
        - name: RocAuc
          evaluation_transformer_function: null
"""
