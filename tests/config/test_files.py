"""Reading configs, and the setting that points them at data of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from reviewkd_mm.cli.config import load_config
from reviewkd_mm.config import (
    check_classes,
    parse_config,
    read_config,
    resolve_coco_data,
)
from reviewkd_mm.config.coco_data import read_categories

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PETS = dict(
    classes=('cat', 'dog'),
    data_root='data/pets/',
    train=dict(ann_file='train.json', data_prefix=dict(img='train/')),
    val=dict(ann_file='val.json', data_prefix=dict(img='val/')),
)


def dataset(**kwargs) -> dict:
    return dict(type='CocoDataset', data_root='data/coco/', ann_file='coco.json', **kwargs)


def detector(**kwargs) -> Config:
    cfg = dict(
        model=dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', num_classes=80)),
        train_dataloader=dict(dataset=dataset(filter_cfg=dict(min_size=32))),
        val_dataloader=dict(dataset=dataset(test_mode=True)),
        test_dataloader=dict(dataset=dataset(test_mode=True)),
        val_evaluator=dict(type='CocoMetric', ann_file='data/coco/coco.json'),
        test_evaluator=[dict(type='CocoMetric', ann_file='data/coco/coco.json')],
        coco_data=PETS,
    )
    return Config({**cfg, **kwargs})


def test_one_setting_reaches_data_evaluators_and_classes():
    cfg = resolve_coco_data(detector())

    for split, file in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        found = cfg[f'{split}_dataloader'].dataset
        assert found.data_root == 'data/pets/'
        assert found.ann_file == f'{file}.json'
        assert found.data_prefix == dict(img=f'{file}/')
        assert found.metainfo.classes == ('cat', 'dog')
    assert cfg.train_dataloader.dataset.filter_cfg == dict(min_size=32)
    assert cfg.val_evaluator.ann_file == 'data/pets/val.json'
    assert cfg.test_evaluator[0].ann_file == 'data/pets/val.json'
    assert cfg.model.bbox_head.num_classes == 2
    assert 'coco_data' not in cfg


def test_a_test_set_of_its_own():
    test = dict(ann_file='test.json', data_prefix=dict(img='test/'))

    cfg = resolve_coco_data(detector(coco_data=dict(PETS, test=test)))

    assert cfg.val_dataloader.dataset.ann_file == 'val.json'
    assert cfg.test_dataloader.dataset.ann_file == 'test.json'
    assert cfg.test_evaluator[0].ann_file == 'data/pets/test.json'


def test_a_wrapped_dataset_is_found():
    wrapped = dict(type='RepeatDataset', times=3, dataset=dataset())

    cfg = resolve_coco_data(detector(train_dataloader=dict(dataset=wrapped)))

    assert cfg.train_dataloader.dataset.times == 3
    assert cfg.train_dataloader.dataset.dataset.ann_file == 'train.json'


def test_every_head_of_every_stage_gets_the_classes():
    heads = [dict(type='Shared2FCBBoxHead', num_classes=80) for _ in range(3)]
    roi_head = dict(bbox_head=heads, mask_head=dict(num_classes=80))

    cfg = resolve_coco_data(detector(model=dict(type='CascadeRCNN', roi_head=roi_head)))

    assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [2, 2, 2]
    assert cfg.model.roi_head.mask_head.num_classes == 2


def test_a_teacher_keeps_its_classes():
    student, teacher = (dict(type='RetinaNet', bbox_head=dict(num_classes=80)) for _ in range(2))
    model = dict(type='reviewkd_mm.Distiller', student=student, teacher=teacher)

    cfg = resolve_coco_data(detector(model=model))

    assert cfg.model.student.bbox_head.num_classes == 2
    assert cfg.model.teacher.bbox_head.num_classes == 80


def test_no_setting_changes_nothing():
    cfg = detector()
    cfg.pop('coco_data')
    before = cfg.to_dict()

    assert resolve_coco_data(cfg).to_dict() == before


def test_resolving_again_changes_nothing():
    once = resolve_coco_data(detector()).to_dict()

    assert resolve_coco_data(Config(once)).to_dict() == once


def test_a_config_of_ones_own_on_a_pair_of_coco(tmp_path):
    file = tmp_path / 'pets.py'
    base = CONFIGS / 'reviewkd' / 'mask-rcnn_r101_r18_coco.py'
    file.write_text(f'_base_ = {str(base)!r}\ncoco_data = {PETS!r}\n')

    cfg = read_config(file)

    roi_head = cfg.model.student.roi_head
    assert (roi_head.bbox_head.num_classes, roi_head.mask_head.num_classes) == (2, 2)
    assert cfg.train_dataloader.dataset.metainfo.classes == ('cat', 'dog')
    assert cfg.model.teacher.startswith('mmdet::')


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (3, 'coco_data=3: expected a dict'),
        (dict(PETS, clases=()), "there is no key 'clases'; did you mean 'classes'"),
        ({k: v for k, v in PETS.items() if k != 'val'}, "coco_data: the key 'val' is missing"),
        (dict(PETS, train=dict(ann_file='a.json')), "coco_data.train: the key 'data_prefix' is"),
        (dict(PETS, val='val.json'), "coco_data.val='val.json': expected a dict"),
        (dict(PETS, classes='cat'), "coco_data.classes='cat': expected names in a tuple"),
        (dict(PETS, classes=()), 'coco_data.classes=(): expected names'),
        (dict(PETS, classes=(1, 2)), 'coco_data.classes=(1, 2): expected names'),
        (dict(PETS, classes=('cat', 'cat')), 'expected each name once'),
    ],
)
def test_a_wrong_setting_is_named(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_coco_data(detector(coco_data=setting))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(model=dict(type='RPN')), "no part of RPN has the key 'num_classes'"),
        (
            dict(train_dataloader=dict(dataset=dict(type='Digits'))),
            'train_dataloader.dataset is a Digits without ann_file',
        ),
        (
            dict(model=dict(student='mmdet::some.py', teacher='mmdet::other.py')),
            "student='mmdet::some.py': expected a dict, whose classes can be set",
        ),
    ],
)
def test_a_config_without_a_place_for_the_setting_is_an_error(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve_coco_data(detector(**changes))


def annotations(categories: list[dict]) -> str:
    """Write an annotation file of one image and one object."""
    box = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 4, 4])
    image = dict(id=1, file_name='1.png', height=8, width=8)
    return json.dumps(dict(images=[image], annotations=[box], categories=categories))


@pytest.mark.parametrize('wrap', [False, True])
def test_a_class_that_the_annotations_lack_is_an_error(tmp_path, wrap):
    categories = [dict(id=1, name='cat'), dict(id=2, name='dogs')]
    for name in ('train.json', 'val.json'):
        (tmp_path / name).write_text(annotations(categories))
    inner = dataset()
    train = dict(type='RepeatDataset', times=2, dataset=inner) if wrap else inner
    cfg = detector(
        train_dataloader=dict(dataset=train), coco_data=dict(PETS, data_root=str(tmp_path))
    )

    with pytest.raises(ValueError, match=r'metainfo\.classes: .*train\.json') as caught:
        check_classes(resolve_coco_data(cfg))

    assert "has no category 'dog'; did you mean 'dogs'?" in str(caught.value)


def test_classes_of_files_that_are_not_there_are_left_to_the_dataset():
    check_classes(resolve_coco_data(detector()))


def test_classes_that_the_annotations_have_pass(tmp_path):
    categories = [dict(id=1, name='dog'), dict(id=2, name='cat'), dict(id=3, name='bird')]
    for name in ('train.json', 'val.json'):
        (tmp_path / name).write_text(annotations(categories))

    check_classes(resolve_coco_data(detector(coco_data=dict(PETS, data_root=str(tmp_path)))))


def test_a_test_split_without_annotations_passes(tmp_path):
    file = tmp_path / 'image_info.json'
    file.write_text(json.dumps(dict(images=[dict(id=1)], categories=[dict(id=1, name='dog')])))

    assert read_categories(file, 'test') == ['dog']
    with pytest.raises(ValueError, match="a list under the key 'annotations'"):
        read_categories(file, 'val')


def test_annotations_in_mmengines_own_format_are_left_to_the_dataset(tmp_path):
    content = json.dumps(dict(metainfo=dict(classes=['dog', 'cat']), data_list=[]))
    for name in ('train.json', 'val.json'):
        (tmp_path / name).write_text(content)

    check_classes(resolve_coco_data(detector(coco_data=dict(PETS, data_root=str(tmp_path)))))


@pytest.mark.parametrize(
    ('package', 'message'),
    [
        ('mmseg', "the package 'mmseg', .* pip install onedl-mmsegmentation==1.4.2$"),
        ('mmyolo', "the package 'mmyolo', which is not installed$"),
    ],
)
def test_a_missing_package_of_a_base_is_named(tmp_path, monkeypatch, package, message):
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda name: False)
    path = tmp_path / 'some.py'
    path.write_text(f"_base_ = '{package}::some/base.py'\n")

    with pytest.raises(ValueError, match=f'^{re.escape(str(path))}: .*{message}'):
        parse_config(path)


def test_another_missing_module_is_no_missing_package_of_a_base(tmp_path):
    path = tmp_path / 'some.py'
    path.write_text('raise ModuleNotFoundError("No module named \'some\'")\n')

    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'some'$"):
        parse_config(path)


@pytest.fixture
def beside(tmp_path, monkeypatch) -> Path:
    """Write a config of relative paths, with the files beside it, and work elsewhere."""
    folder, elsewhere = tmp_path / 'configs', tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (folder / 'weights').mkdir(parents=True)
    for name in ('weights/teacher.pth', 'weights/backbone.pth', 'teacher.py'):
        (folder / name).touch()
    pretrained = dict(type='Pretrained', checkpoint='weights/backbone.pth')
    model = dict(
        student=dict(type='A', backbone=dict(init_cfg=pretrained)),
        teacher='teacher.py',
        teacher_ckpt='weights/teacher.pth',
    )
    (folder / 'pair.py').write_text(f'model = {model!r}')
    monkeypatch.chdir(elsewhere)
    return folder


def paths_of(cfg: Config) -> list[str]:
    init_cfg = cfg.model.student.backbone.init_cfg
    return [cfg.model.teacher, cfg.model.teacher_ckpt, init_cfg.checkpoint]


@pytest.mark.parametrize('read', [read_config, lambda file: load_config(str(file))])
def test_relative_paths_are_looked_for_beside_the_config_too(beside, read):
    names = ['teacher.py', 'weights/teacher.pth', 'weights/backbone.pth']

    cfg = read(beside / 'pair.py')

    assert paths_of(cfg) == [str(beside / name) for name in names]


def test_a_file_in_the_working_folder_comes_before(beside):
    Path('teacher.py').touch()

    assert paths_of(read_config(beside / 'pair.py'))[0] == 'teacher.py'


def test_a_path_that_is_nowhere_stays_as_it_is(beside):
    (beside / 'weights/teacher.pth').unlink()

    assert paths_of(read_config(beside / 'pair.py'))[1] == 'weights/teacher.pth'
