"""Write the tables in configs/*/README.md from the metafiles beside them.

A table stands between the markers of its README; what is outside of them is written by hand.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
BEGIN, END = '<!-- table: begin -->', '<!-- table: end -->'
COLUMNS = {
    'Teacher': 'teacher',
    'Student': 'student',
    'Published': 'published',
    'Rerun': 'rerun by others',
    'Student Alone': 'student alone',
    'Teacher Alone': 'teacher alone',
}
# The paper's data sets stand before the others.
FIRST = ('CIFAR-100', 'COCO', 'ImageNet-1k')
NUMBERS = ('Published', 'Rerun', 'Student Alone', 'Teacher Alone')


def read_models(metafile: Path) -> list[dict[str, Any]]:
    """Read the models of a metafile.

    Args:
        metafile (Path): The file.
    """
    return yaml.safe_load(metafile.read_text(encoding='utf-8'))['Models']


def make_tables(models: list[dict[str, Any]]) -> str:
    """Make a table for each data set, and under it the sources and what differs from them.

    Args:
        models (list[dict]): The models of a metafile.
    """
    by_data = sorted(models, key=lambda model: (_data(model) not in FIRST, _data(model)))
    return '\n'.join(_make_section(data, list(group)) for data, group in groupby(by_data, _data))


def _data(model: dict[str, Any]) -> str:
    return model['Metadata']['Training Data']


def _make_section(data: str, models: list[dict[str, Any]]) -> str:
    columns = [key for key in COLUMNS if any(key in model['Metadata'] for model in models)]
    metrics = ', '.join(sorted({model['Metadata']['Metric'] for model in models}))
    notes: dict[str, int] = {}
    lines = [f'## {data}', '', f'Metric: {metrics}.', '']
    lines.append('| config | ' + ' | '.join(COLUMNS[key] for key in columns) + ' | notes |')
    lines.append(
        '|---|' + ''.join('---:|' if key in NUMBERS else '---|' for key in columns) + '---|'
    )
    for model in models:
        metadata = model['Metadata']
        file = Path(model['Config']).name
        cells = [f'[{Path(file).stem}]({file})', *(_cell(metadata, key) for key in columns)]
        numbers = [str(notes.setdefault(note, len(notes) + 1)) for note in _notes(metadata)]
        lines.append('| ' + ' | '.join([*cells, ', '.join(numbers)]) + ' |')
    lines += ['', *(f'{number}. {note}' for note, number in notes.items())]
    return '\n'.join(lines).rstrip() + '\n'


def _cell(metadata: dict[str, Any], key: str) -> str:
    value = metadata.get(key, '')
    if key not in NUMBERS or value == '':
        return str(value)
    return f'{value:.2f}' if metadata['Metric'] == 'Top 1 Accuracy' else f'{value}'


def _notes(metadata: dict[str, Any]) -> list[str]:
    sources = [
        f'{what}: {metadata[key]}.'
        for what, key in (('Published', 'Published Source'), ('Rerun', 'Rerun Source'))
        if key in metadata
    ]
    return [*sources, *(f'Here {difference}.' for difference in metadata.get('Differs', []))]


def update(readme: Path) -> str:
    """Return a README's text with the tables of the metafile beside it.

    Args:
        readme (Path): The README, which has the markers.
    """
    head, _, rest = readme.read_text(encoding='utf-8').partition(BEGIN)
    tail = rest.partition(END)[2]
    tables = make_tables(read_models(readme.with_name('metafile.yml')))
    return f'{head}{BEGIN}\n\n{tables}\n{END}{tail}'


def main() -> None:
    """Update every README that stands beside a metafile."""
    for metafile in sorted(CONFIGS.glob('*/metafile.yml')):
        readme = metafile.with_name('README.md')
        readme.write_text(update(readme), encoding='utf-8')
        print(readme, file=sys.stderr)


if __name__ == '__main__':
    main()
