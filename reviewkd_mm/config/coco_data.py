"""The setting ``coco_data``: a detector's data of one's own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from reviewkd_mm.config.parts import innermost_dataset, is_distiller
from reviewkd_mm.errors import ConfigError, config_key
from reviewkd_mm.utils import did_you_mean

SETTING = 'coco_data'
SPLITS = ('train', 'val', 'test')
KEYS = ('classes', 'data_root', *SPLITS)
COCO_KEYS = ('images', 'annotations', 'categories')
NO_BOX = (0, 0, 0, 0)  # of an annotation that has a mask alone
THINGS, STUFF = 'num_things_classes', 'num_stuff_classes'
SPLIT_KEYS = ('ann_file', 'data_prefix')
EXAMPLE = (
    "coco_data = dict(classes=('cat', 'dog'), data_root='data/pets/', "
    "train=dict(ann_file='annotations/train.json', data_prefix=dict(img='train/')), "
    "val=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/')))"
)


def resolve_coco_data(cfg: Config) -> Config:
    """Write the setting ``coco_data`` into every place of a config that depends on it.

    These are the three datasets (root, annotation file, image folder, classes), the evaluators'
    annotation files and each ``num_classes`` of the model that is trained; of a distiller that is
    the student, while the teacher keeps the classes that it was trained for. Where a head tells
    things from stuff, as MaskFormer's and Mask2Former's do, all classes are things; weights of
    the classes become as many. ``test`` is ``val`` unless it is given. The setting is removed, so
    that resolving twice is resolving once.

    Args:
        cfg (Config): A detector's or its distiller's config, changed in place.

    Returns:
        Config: The same config.

    Raises:
        ValueError: If the setting has a wrong or a missing key, or the config no place for it.

    Examples:
        >>> cfg = Config.fromfile('configs/baselines/retinanet_r18_bccd.py')
        >>> cfg = resolve_coco_data(cfg)
        >>> cfg.train_dataloader.dataset.metainfo.classes
        ('RBC', 'WBC', 'Platelets')
    """
    setting = cfg.get(SETTING)
    if setting is None:
        return cfg
    _check(setting)
    classes = tuple(setting['classes'])
    for split in SPLITS:
        files = setting.get(split) or setting['val']
        _set_dataset(cfg, split, setting['data_root'], files, classes)
        _set_evaluator(cfg, split, setting['data_root'], files['ann_file'])
    _set_num_classes(cfg, len(classes))
    cfg.pop(SETTING)
    return cfg


def check_classes(cfg: Config) -> None:
    """Check that the annotation files know the classes that the datasets are to read.

    MMDetection reads a class that its file lacks as one without objects, and trains for nothing.
    It names neither the file nor the entry where an annotation is damaged.

    Args:
        cfg (Config): A config after :func:`resolve_coco_data`.

    Raises:
        ValueError: If a class is not among a file's categories, with their names, or a file is no
            annotation file in COCO format.
    """
    for split in SPLITS:
        dataset = innermost_dataset((cfg.get(f'{split}_dataloader') or {}).get('dataset'))
        classes = (dataset.get('metainfo') or {}).get('classes')
        file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        if classes is None or file.suffix != '.json' or not file.is_file():
            continue
        if not classes:
            raise ConfigError(
                f'{split}_dataloader.dataset.metainfo.classes={classes!r}: expected names'
            )
        with config_key(f'{split}_dataloader.dataset.ann_file: {file}', (ValueError,)):
            known = read_categories(file, split)
        for name in classes:
            if known is not None and name not in known:
                raise ConfigError(
                    f'{split}_dataloader.dataset.metainfo.classes: {file} has no category '
                    f"'{name}'; {did_you_mean(name, known)}"
                )


def read_categories(file: Path, split: str) -> list[str] | None:
    """Read the names of the categories of an annotation file in COCO format.

    Args:
        file (Path): The file.
        split (str): What it is for; that of ``'test'`` may have no annotations.

    Returns:
        list[str] | None: The names; None for a file in MMEngine's own format.

    Raises:
        ValueError: If it is no such file, has no images, or a box is no box.
    """
    try:
        content = json.loads(file.read_text())
    except ValueError as error:  # JSON's and Unicode's
        raise ConfigError(f'expected a file in COCO format, which is JSON: {error}') from error
    if not isinstance(content, Mapping):
        raise ConfigError(f'expected a dict in COCO format, got a {type(content).__name__}')
    if 'data_list' in content:
        return None
    content = {'annotations': [], **content} if split == 'test' else content
    for key in COCO_KEYS:
        if not isinstance(content.get(key), list):
            raise ConfigError(f"expected a list under the key '{key}', as COCO format has it")
    for key in ('images', 'annotations') if split == 'train' else ('images',):
        if not content[key]:
            raise ConfigError(f'{key}=[]: expected at least one')
    for annotation in content['annotations']:
        box = annotation.get('bbox', NO_BOX)
        if len(box) != 4 or not math.isfinite(sum(box)):
            raise ConfigError(
                f'bbox={box} of the annotation with id={annotation.get("id")}: expected four '
                'finite numbers, [left, top, width, height]'
            )
    return [category['name'] for category in content['categories']]


def _check(setting: Mapping) -> None:
    if not isinstance(setting, Mapping):
        raise ConfigError(f'{SETTING}={setting!r}: expected a dict, such as {EXAMPLE}')
    _check_keys(SETTING, setting, KEYS, required=('classes', 'data_root', 'train', 'val'))
    for split in SPLITS:
        if setting.get(split):
            _check_keys(f'{SETTING}.{split}', setting[split], SPLIT_KEYS, required=SPLIT_KEYS)
    classes = setting['classes']
    names = isinstance(classes, Sequence) and not isinstance(classes, str) and len(classes) > 0
    if not names or not all(isinstance(name, str) for name in classes):
        raise ConfigError(
            f"{SETTING}.classes={classes!r}: expected names in a tuple, such as ('cat', 'dog'); "
            "a single one is ('cat',)"
        )
    if len(set(classes)) < len(classes):
        raise ConfigError(f'{SETTING}.classes={tuple(classes)!r}: expected each name once')


def _check_keys(name: str, given: Mapping, known: tuple, required: tuple) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f'{name}={given!r}: expected a dict, such as {EXAMPLE}')
    for key in given:
        if key not in known:
            raise ConfigError(f"{name}: there is no key '{key}'; {did_you_mean(key, known)}")
    for key in required:
        if key not in given:
            raise ConfigError(f"{name}: the key '{key}' is missing; expected {EXAMPLE}")


def _set_dataset(
    cfg: Config, split: str, data_root: str, files: Mapping, classes: tuple[str, ...]
) -> None:
    dataloader = cfg.get(f'{split}_dataloader')
    if not dataloader:
        return
    dataset = innermost_dataset(dataloader['dataset'])
    if 'ann_file' not in dataset:
        raise ConfigError(
            f'{SETTING}: {split}_dataloader.dataset is a {dataset.get("type")} without ann_file; '
            'expected a CocoDataset, or one wrapped in the dataset of another'
        )
    if str(dataset.get('type')).endswith('CocoPanopticDataset'):
        raise ConfigError(
            f'{SETTING}: {split}_dataloader.dataset is a CocoPanopticDataset, whose classes are '
            'things and stuff; expected a CocoDataset, with LoadAnnotations(with_mask=True) in '
            'its pipeline and CocoMetric to evaluate it'
        )
    dataset['data_root'] = data_root
    dataset['ann_file'] = files['ann_file']
    dataset['data_prefix'] = dict(files['data_prefix'])
    dataset['metainfo'] = dict(classes=classes)


def _set_evaluator(cfg: Config, split: str, data_root: str, ann_file: str) -> None:
    evaluator = cfg.get(f'{split}_evaluator') or []
    for metric in evaluator if isinstance(evaluator, Sequence) else [evaluator]:
        if 'ann_file' in metric:
            metric['ann_file'] = str(Path(data_root, ann_file))


def _set_num_classes(cfg: Config, num_classes: int) -> None:
    model = cfg['model']
    if is_distiller(model):
        model = model['student']
    if not isinstance(model, Mapping):
        raise ConfigError(
            f'{SETTING}: student={model!r}: expected a dict, whose classes can be set; make the '
            "student's file a _base_ and write student=_base_.model"
        )
    heads = list(_with_num_classes(model))
    if not heads:
        raise ConfigError(f"{SETTING}: no part of {model.get('type')} has the key 'num_classes'")
    for head in heads:
        _set_head(head, num_classes)


def _set_head(head: dict, num_classes: int) -> None:
    if THINGS in head:
        known = head[THINGS] + head.get(STUFF, 0)
        head.update({THINGS: num_classes, STUFF: 0})
    else:
        known = head['num_classes']
        head['num_classes'] = num_classes
    for name, loss in head.items():
        weights = loss.get('class_weight') if isinstance(loss, Mapping) else None
        if isinstance(weights, (list, tuple)):
            with config_key(f'{SETTING}: {head.get("type")}.{name}'):
                loss['class_weight'] = _fit_weights(list(weights), known, num_classes)


def _fit_weights(weights: list[float], known: int, num_classes: int) -> list[float]:
    """Return as many weights of classes as there are now, and that of the background if given."""
    of_classes, of_background = weights[:known], weights[known:]
    if len(weights) >= known and len(of_background) < 2 and len(set(of_classes)) == 1:
        return of_classes[:1] * num_classes + of_background
    if len(weights) not in (num_classes, num_classes + 1):
        raise ConfigError(
            f'class_weight={weights}: expected the weights of {num_classes} classes and, where '
            'the head has one, of the background after them'
        )
    return weights


def _with_num_classes(node: object) -> Iterator[dict]:
    if isinstance(node, Mapping):
        if 'num_classes' in node or THINGS in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _with_num_classes(child)
