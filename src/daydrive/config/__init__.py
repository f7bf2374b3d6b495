"""Settings: their schema, and loading them from YAML."""

from daydrive.config.loading import as_tree, load_config, model_config_class, parse_config
from daydrive.config.schema import (
    ARCHITECTURES,
    AlarmsConfig,
    AugmentationConfig,
    BalanceConfig,
    Config,
    CurriculumConfig,
    DataConfig,
    LoggingConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SchedulerConfig,
    Settings,
    TrainingConfig,
    UnrollPhase,
)

__all__ = [
    "ARCHITECTURES",
    "AlarmsConfig",
    "AugmentationConfig",
    "BalanceConfig",
    "Config",
    "CurriculumConfig",
    "DataConfig",
    "LoggingConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SchedulerConfig",
    "Settings",
    "TrainingConfig",
    "UnrollPhase",
    "as_tree",
    "load_config",
    "model_config_class",
    "parse_config",
]
