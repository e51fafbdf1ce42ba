/* The kernels of ops of which only biases learn, or some rows: those of all other ops, compiled once more.
 *
 * Included before anything else. So a network that learns whole layers pays nothing for it, and the linker
 * leaves out what is not called.
 */
#ifndef RCT_SPLIT_H
#define RCT_SPLIT_H

#define RCT_SPLIT_ROWS             1
#define rct_conv_2d                rct_conv_2d_split
#define rct_conv_2d_grad           rct_conv_2d_split_grad
#define rct_depthwise_conv_2d      rct_depthwise_conv_2d_split
#define rct_depthwise_conv_2d_grad rct_depthwise_conv_2d_split_grad
#define rct_fully_connected        rct_fully_connected_split
#define rct_fully_connected_grad   rct_fully_connected_split_grad
#define rct_learn_channel          rct_learn_channel_split
#define rct_transpose_conv         rct_transpose_conv_split
#define rct_transpose_conv_grad    rct_transpose_conv_split_grad

#endif
