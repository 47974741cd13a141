"""Measures the top-1 and top-5 error of a run's best checkpoint."""

from pathlib import Path

from alexnet_tf import assembly
from alexnet_tf.config import Config
from alexnet_tf.run_dir import write_json


def run(config: Config, words: list[str]) -> int:
    """Prints the errors on --split.

    Args:
        config: The settings, those of the run among them.
        words: The run directory, already in `config`.

    Returns:
        The exit code, 0.

    Raises:
        UserError: if there is no such run or split.
    """
    run_dir = assembly.open_run(config)
    facts = assembly.read_facts(run_dir)
    placement = assembly.make_placement(config)
    split = config.split or config.validation_split
    examples = assembly.open_split(config, split)
    model = assembly.make_trainer(config, facts, placement)
    state = assembly.restore_best(model, run_dir)
    center = assembly.evaluate_centre(model, config, examples)
    print(
        f"{run_dir.path}, best after epoch {state['epochs_done']}, "
        f"{config.dataset} {split or 'validation'}, "
        f"{center['num_examples']} images\n"
        f"{'':14}{'top-1 error':>12}{'top-5 error':>12}\n"
        f"{'centre crop':14}{center['top1_error']:12.4f}"
        f"{center['top5_error']:12.4f}"
    )
    if config.json:
        write_json(Path(config.json), {"center": center})
    return 0
