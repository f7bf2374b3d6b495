"""Settings: their schema, and how they are loaded from YAML."""

from daydrive.config.loading import as_tree, load_config, parse_config
from daydrive.config.schema import (
    AlarmsConfig,
    AugmentationConfig,
    BalanceConfig,
    Config,
    CurriculumConfig,
    DataConfig,
    DecoderConfig,
    DynamicsConfig,
    EncoderConfig,
    LoggingConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    TrainingConfig,
    UnrollPhase,
)

__all__ = [
    "AlarmsConfig",
    "AugmentationConfig",
    "BalanceConfig",
    "Config",
    "CurriculumConfig",
    "DataConfig",
    "DecoderConfig",
    "DynamicsConfig",
    "EncoderConfig",
    "LoggingConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SchedulerConfig",
    "TrainingConfig",
    "UnrollPhase",
    "as_tree",
    "load_config",
    "parse_config",
]
