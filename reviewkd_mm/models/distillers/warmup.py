"""The warm-up of a transfer's loss."""

from __future__ import annotations

from mmengine.logging import MessageHub

from reviewkd_mm.errors import RunError


def warmup_factor(warmup_epochs: float) -> float:
    """Return ``min(1, epoch / warmup_epochs)`` of the running training, epochs counted from 0.

    As in the ReviewKD authors' code the factor is constant within an epoch where the warm-up is a
    whole number of epochs; where it is not, such as the 0.67 of a short training, the epoch counts
    with the fraction of it that is done.

    The epoch is read from MMEngine's MessageHub. In an iteration-based loop MMEngine leaves it
    at 0: :class:`reviewkd_mm.engine.hooks.EpochInfoHook` writes it there.

    Args:
        warmup_epochs (float): Length of the warm-up in epochs; 0 for none.

    Returns:
        float: The factor in [0, 1]; 1.0 outside a Runner's training.

    Raises:
        RunError: If the factor would stay 0 for the whole run.
    """
    if not warmup_epochs:
        return 1.0
    hub = MessageHub.get_current_instance()
    if hub.get_info('loop_stage') != 'train':
        return 1.0
    length = hub.get_info('iters_per_epoch')
    if length is None and hub.get_info('max_epochs') == 1:
        raise RunError(
            f'warmup_epochs={warmup_epochs}: this run counts one epoch, so the loss would be 0 '
            "throughout. In an iteration-based loop add dict(type='reviewkd_mm.EpochInfoHook') to "
            'custom_hooks; in a run of one epoch set warmup_epochs=0'
        )
    if float(warmup_epochs).is_integer():
        return min(1.0, hub.get_info('epoch') / warmup_epochs)
    length = length or hub.get_info('max_iters') / hub.get_info('max_epochs')
    return min(1.0, hub.get_info('iter') / length / warmup_epochs)
