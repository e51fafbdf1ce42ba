/*
 * The type of errors: int8, or int16 in a file that defines RCT_ERROR_BITS as 16 before it includes anything.
 *
 * Every kernel of the backward pass exists in both widths, from one source: the kernels/..._16.c include it
 * with 16 bits, and its functions get names that end in _16. Callers write the same names for both.
 */
#ifndef RCT_ERROR_H
#define RCT_ERROR_H

#include <stdint.h>

#ifndef RCT_ERROR_BITS
    #define RCT_ERROR_BITS 8
#endif

/* Errors are symmetric: -RCT_ERROR_MAX to RCT_ERROR_MAX. */
#if RCT_ERROR_BITS == 8
typedef int8_t rct_error_t;
    #define RCT_ERROR_MAX INT8_MAX
#elif RCT_ERROR_BITS == 16
typedef int16_t rct_error_t;
    #define RCT_ERROR_MAX INT16_MAX

    #define rct_softmax_cross_entropy        rct_softmax_cross_entropy_16
    #define rct_sigmoid_cross_entropy        rct_sigmoid_cross_entropy_16
    #define rct_difference_error             rct_difference_error_16
    #define rct_mask                         rct_mask_16
    #define rct_save_mask                    rct_save_mask_16
    #define rct_apply_mask                   rct_apply_mask_16
    #define rct_max_pool_2d_grad             rct_max_pool_2d_grad_16
    #define rct_average_pool_2d_grad         rct_average_pool_2d_grad_16
    #define rct_pair_grad                    rct_pair_grad_16
    #define rct_negate_errors                rct_negate_errors_16
    #define rct_mean_grad                    rct_mean_grad_16
    #define rct_pad_grad                     rct_pad_grad_16
    #define rct_table_grad                   rct_table_grad_16
    #define rct_merge_errors                 rct_merge_errors_16
    #define rct_learn_bias                   rct_learn_bias_16
    #define rct_learn_channel_split          rct_learn_channel_split_16
    #define rct_conv_2d_split_grad           rct_conv_2d_split_grad_16
    #define rct_depthwise_conv_2d_split_grad rct_depthwise_conv_2d_split_grad_16
    #define rct_fully_connected_split_grad   rct_fully_connected_split_grad_16
    #define rct_transpose_conv_split_grad    rct_transpose_conv_split_grad_16
    #if !RCT_SPLIT_ROWS /* else kernels/split.h has renamed them */
        #define rct_conv_2d_grad           rct_conv_2d_grad_16
        #define rct_depthwise_conv_2d_grad rct_depthwise_conv_2d_grad_16
        #define rct_fully_connected_grad   rct_fully_connected_grad_16
        #define rct_transpose_conv_grad    rct_transpose_conv_grad_16
        #define rct_learn_channel          rct_learn_channel_16
    #endif

#else
    #error "errors have 8 or 16 bits"
#endif

#endif
