"""A training: what its parts have in common, what it says and leaves behind."""

import dataclasses
from pathlib import Path

import keras

from alexnet_tf.config.flags import Config, to_flagfile
from alexnet_tf.data.bad_examples import BadExamples
from alexnet_tf.data.examples import Examples
from alexnet_tf.distribution.placement import Placement
from alexnet_tf.distribution.workers import Workers
from alexnet_tf.evaluation import predictor as evaluation
from alexnet_tf.evaluation.inference import save_endpoints
from alexnet_tf.evaluation.predictor import SplitPredictor
from alexnet_tf.storage import checkpoints
from alexnet_tf.storage.dataset_info import DatasetFacts
from alexnet_tf.storage.run_dir import RunDir, write_json, write_whole
from alexnet_tf.training import assembly, building, weights
from alexnet_tf.training import resume as resuming
from alexnet_tf.training.environment import describe_environment
from alexnet_tf.training.progress import Progress


@dataclasses.dataclass(frozen=True)
class Job:
    """A training, new or gone on with.

    Args:
        config: The settings that count.
        run_dir: The run directory.
        earlier: The settings of its last start, if there was one.
        source: The checkpoint that a new run begins with, if one is given.
        placement: The devices of this worker.
        workers: All workers.
        training: The training split.
        validation: The validation split.
        bad: Where bad examples of both are noted.
    """

    config: Config
    run_dir: RunDir
    earlier: Config | None
    source: Path | None
    placement: Placement
    workers: Workers
    training: Examples
    validation: Examples
    bad: BadExamples

    def note_batch(self, step: int) -> str:
        """Writes down which examples are in a step's batch, and says so."""
        names = assembly.names_of_step(self.config, self.training, step)
        file = self.run_dir.nonfinite(step)
        if self.workers.is_chief:
            write_whole(file, "\n".join(names) + "\n")
        return (
            f"Its {len(names)} examples, {names[0]} and others, are in {file}."
        )

    def write_settings(self, facts: DatasetFacts) -> None:
        """Writes flags.cfg and environment.json, and tells what changed."""
        environment = describe_environment(
            self.placement, self.config.dataset, facts.train_examples
        )
        resuming.tell_changes(
            self.run_dir, environment, self.earlier, self.config
        )
        write_whole(self.run_dir.flags, to_flagfile(self.config))
        write_json(self.run_dir.environment, environment)

    def announce(
        self, model: keras.Model, facts: DatasetFacts, progress: Progress
    ) -> None:
        """Says what is trained on what, and where it stands."""
        if self.workers.count > 1:
            print(f"Worker {self.workers.index} of {self.workers.count}.")
        print(
            f"Network: {model.count_params():,} parameters, "
            f"{len(facts.class_names)} classes\n"
            f"Data: {facts.train_examples:,} training and "
            f"{facts.validation_examples:,} validation images"
        )
        for number, devices in enumerate(self.placement.devices):
            print(f"Replica {number}: {', '.join(devices)}")
        if "GPU" not in self.placement.leads[0]:
            print("No GPU is used.")
        print(
            f"Run directory: {self.run_dir.path}\n"
            f"Watch it: tensorboard --logdir {self.run_dir.tensorboard}"
        )
        if progress.step:
            print(
                f"Going on after step {progress.step}, with "
                f"{progress.epochs_done} epochs done."
            )

    def finish(self, model: keras.Model, validator: SplitPredictor) -> None:
        """Measures and exports the best checkpoint; result.json comes last."""
        run_dir = self.run_dir
        self.workers.wait()  # Until the last one is written.
        state = weights.restore_best(model, run_dir)
        predicted = validator.predict()
        if not self.workers.is_chief:
            return
        measured = evaluation.measure(predicted["center"], predicted["labels"])
        save_endpoints(
            building.make_best_endpoints(self.config, run_dir),
            run_dir.saved_model,
        )
        newest = checkpoints.read_state(checkpoints.newest(run_dir.checkpoints))
        result = {
            **measured,
            "best_epoch": state["epochs_done"] - 1,
            "epochs": newest["epochs_done"],
            "steps": newest["step"],
            "parameters": model.count_params(),
        }
        write_json(run_dir.result, result)
        print(
            f"Best after epoch {state['epochs_done']}: validation top-1 error "
            f"{measured['top1_error']:.4f}, top-5 error "
            f"{measured['top5_error']:.4f} on {measured['num_examples']} "
            "images\n"
            f"Exported to {run_dir.saved_model}; results in {run_dir.result}"
        )
