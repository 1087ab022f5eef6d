/* Layers of exported policies, in C99. `source.py` copies the functions that a policy needs into its `policy.c`.
 * Tensors are arrays of floats, row by row. No function allocates memory.
 */

#include <math.h>
#include <stdint.h>

/* Read floats. */
static void read_floats(const float *x, int size, float *y)
{
    for (int i = 0; i < size; ++i) {
        y[i] = x[i];
    }
}

/* Read bytes as floats, 0 to 255. */
static void read_bytes(const uint8_t *x, int size, float *y)
{
    for (int i = 0; i < size; ++i) {
        y[i] = (float)x[i];
    }
}

/* Read a choice as a one-hot vector; a choice outside the space gives zeros. */
static void read_choice(int32_t choice, int32_t start, int size, float *y)
{
    for (int i = 0; i < size; ++i) {
        y[i] = choice == start + i ? 1.0f : 0.0f;
    }
}

/* Move the channels of an image of `places` pixels to the front. */
static void channels_first(const float *x, int places, int channels, float *y)
{
    for (int c = 0; c < channels; ++c) {
        for (int i = 0; i < places; ++i) {
            y[c * places + i] = x[i * channels + c];
        }
    }
}

/* Set numbers to a constant: padding, and the agent's one-hot id. */
static void fill(float *x, int size, float value)
{
    for (int i = 0; i < size; ++i) {
        x[i] = value;
    }
}

/* Divide numbers by a common bound. */
static void divide(float *x, int size, float divisor)
{
    for (int i = 0; i < size; ++i) {
        x[i] /= divisor;
    }
}

/* Divide each number by its own bound. */
static void divide_each(float *x, int size, const float *divisor)
{
    for (int i = 0; i < size; ++i) {
        x[i] /= divisor[i];
    }
}

/* Normalise numbers by the statistics of training, clipped at -10 and 10; NaN stays NaN. */
static void normalize(float *x, int size, const float *mean, const float *scale)
{
    for (int i = 0; i < size; ++i) {
        const float normalized = (x[i] - mean[i]) * scale[i];
        x[i] = normalized < -10.0f ? -10.0f : normalized > 10.0f ? 10.0f : normalized;
    }
}

/* Sum of products in eight partial sums: they vectorise, and round less than a single sum. */
static float dot(const float *x, const float *y, int size)
{
    float sums[8] = {0.0f};
    int i = 0;

    for (; i + 8 <= size; i += 8) {
        for (int j = 0; j < 8; ++j) {
            sums[j] += x[i + j] * y[i + j];
        }
    }
    for (; i < size; ++i) {
        sums[i % 8] += x[i] * y[i];
    }
    return (sums[0] + sums[4]) + (sums[1] + sums[5]) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

/* Dense layer, y = W x + b, with weights (out, in). */
static void dense(const float *x, int in, const float *weight, const float *bias, int out, float *y)
{
    for (int o = 0; o < out; ++o) {
        y[o] = bias[o] + dot(weight + o * in, x, in);
    }
}

/* Compute a place of a convolution: `x` is the image, `weight` the filter (channels, size, size). */
static float filter_place(const float *x, int channels, int height, int width, const float *weight, int size, int top,
                          int left)
{
    float sum = 0.0f;

    for (int c = 0; c < channels; ++c) {
        float channel_sum = 0.0f; /* a single sum over all channels would round more */

        for (int i = top < 0 ? -top : 0; i < size && top + i < height; ++i) {
            for (int j = left < 0 ? -left : 0; j < size && left + j < width; ++j) {
                channel_sum += x[(c * height + top + i) * width + left + j] * weight[(c * size + i) * size + j];
            }
        }
        sum += channel_sum;
    }
    return sum;
}

/* Convolution of an image (channels, height, width) with square filters (filters, channels, size, size). */
static void convolve(const float *x, int channels, int height, int width, const float *weight, const float *bias,
                     int filters, int size, int stride, int padding, float *y)
{
    for (int f = 0; f < filters; ++f) {
        const float *filter = weight + f * channels * size * size;
        for (int top = -padding; top + size <= height + padding; top += stride) {
            for (int left = -padding; left + size <= width + padding; left += stride) {
                *y++ = bias[f] + filter_place(x, channels, height, width, filter, size, top, left);
            }
        }
    }
}

/* Rectifier, max(x, 0); NaN stays NaN. */
static void relu(float *x, int size)
{
    for (int i = 0; i < size; ++i) {
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
    }
}

/* Hyperbolic tangent. */
static void squash(float *x, int size)
{
    for (int i = 0; i < size; ++i) {
        x[i] = tanhf(x[i]);
    }
}

/* Layer normalisation, arXiv:1607.06450: mean 0 and variance 1 over the layer, then a weight and a bias each. */
static void layer_norm(float *x, int size, const float *weight, const float *bias)
{
    float mean = 0.0f;
    float deviation;

    for (int i = 0; i < size; ++i) {
        mean += x[i];
    }
    for (int i = 0; i < size; ++i) {
        x[i] -= mean / (float)size;
    }
    deviation = sqrtf(dot(x, x, size) / (float)size + 1e-5f);
    for (int i = 0; i < size; ++i) {
        x[i] = x[i] / deviation * weight[i] + bias[i];
    }
}

/* Logistic function; no number overflows. */
static float logistic(float x)
{
    return 0.5f + 0.5f * tanhf(0.5f * x);
}

/* Gated recurrent unit, arXiv:1406.1078, h' = (1 - z) n + z h, from the sums W x + b and U h + c of the gates r, z, n. */
static void gru(const float *input_sums, const float *hidden_sums, int size, float *memory)
{
    for (int i = 0; i < size; ++i) {
        const float reset = logistic(input_sums[i] + hidden_sums[i]);
        const float update = logistic(input_sums[size + i] + hidden_sums[size + i]);
        const float candidate = tanhf(input_sums[2 * size + i] + reset * hidden_sums[2 * size + i]);
        memory[i] = candidate + update * (memory[i] - candidate);
    }
}
