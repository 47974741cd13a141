"""Writes a folder of images to try training on your own data.

300 images of the embedded data set, sorted into photos/OUTLINE/ by outline
alone, for --dataset=folder:photos. From the repository's root:

    python -m examples.sort_by_outline
"""

from pathlib import Path

from alexnet_tf.data.tfds_source import open_split

split = open_split("shapes", "validation[:25%]")
for number, example in enumerate(split.in_order(1).unbatch()):
    outline = split.class_names[example["label"]].split("_")[1]
    folder = Path("photos", outline)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.jpg").write_bytes(example["image"].numpy())
