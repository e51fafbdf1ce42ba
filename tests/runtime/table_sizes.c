/* Sizes of the runtime's tables, so that a test sees where its ctypes structures differ. */
#include "rct.h"

const uint32_t rct_table_sizes[] = {
    sizeof(rct_requant_t),     sizeof(rct_window_t),
    sizeof(rct_weights_t),     sizeof(rct_fully_connected_t),
    sizeof(rct_conv_2d_t),     sizeof(rct_pool_2d_t),
    sizeof(rct_pair_t),        sizeof(rct_mean_t),
    sizeof(rct_error_scale_t), sizeof(rct_step_multiplier_t),
    sizeof(rct_learn_t),       sizeof(rct_grad_t),
    sizeof(rct_pair_grad_t),   sizeof(rct_merge_t),
    sizeof(rct_loss_t),        sizeof(rct_backward_t),
};
