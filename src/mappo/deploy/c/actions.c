/* Actions of exported policies, in C99. `source.py` copies the functions that a policy needs into its `policy.c`.
 * Without noise (NULL) the likeliest action is taken; with noise, uniform in [0, 1), an action is sampled.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* Return the mask of a head, or NULL where it forbids every choice: all choices are legal then. */
static const uint8_t *usable_mask(const uint8_t *mask, int size)
{
    for (int i = 0; mask != NULL && i < size; ++i) {
        if (mask[i]) {
            return mask;
        }
    }
    return NULL;
}

/* Return the legal choice of the largest logit, the first of equals. */
static int choose_greedily(const float *logit, int size, const uint8_t *mask)
{
    const uint8_t *legal = usable_mask(mask, size);
    int best = -1;

    for (int i = 0; i < size; ++i) {
        if ((legal == NULL || legal[i]) && (best < 0 || logit[i] > logit[best])) {
            best = i;
        }
    }
    return best;
}

/* Sample a legal choice by noise in [0, 1): the first with a cumulative probability above the noise. */
static int choose_by_noise(const float *logit, int size, const uint8_t *mask, float noise)
{
    const uint8_t *legal = usable_mask(mask, size);
    const float largest = logit[choose_greedily(logit, size, mask)];
    float total = 0.0f;
    float sum = 0.0f;
    int choice = -1;

    for (int i = 0; i < size; ++i) {
        total += legal == NULL || legal[i] ? expf(logit[i] - largest) : 0.0f;
    }
    for (int i = 0; i < size && (choice < 0 || sum <= noise * total); ++i) {
        if (legal == NULL || legal[i]) {
            sum += expf(logit[i] - largest);
            choice = i;
        }
    }
    return choice;
}

/* Return the inverse of the normal distribution's CDF: formula 26.2.23 of Abramowitz and Stegun (1964), then two steps
 * of Halley's method.
 */
static double normal_quantile(double probability)
{
    const double tail = probability < 0.5 ? probability : 1.0 - probability;
    const double t = sqrt(-2.0 * log(tail));
    const double numerator = 2.515517 + t * (0.802853 + t * 0.010328);
    const double denominator = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308));
    double x = numerator / denominator - t;

    for (int i = 0; i < 2; ++i) {
        const double error = 0.5 * erfc(-x / 1.4142135623730951) - tail;
        const double step = error * 2.5066282746310002 * exp(0.5 * x * x);
        x -= step / (1.0 + 0.5 * x * step);
    }
    return probability < 0.5 ? x : -x;
}

/* Choose for each head: greedily, or by noise unless it is NULL. `start` holds the number of each first choice. */
static void choose(const float *logit, const uint8_t *mask, const float *noise, int heads, const int *sizes,
                   const int32_t *start, int32_t *choice)
{
    for (int h = 0; h < heads; ++h) {
        const int chosen = noise == NULL ? choose_greedily(logit, sizes[h], mask)
                                         : choose_by_noise(logit, sizes[h], mask, noise[h]);
        choice[h] = start[h] + chosen;
        logit += sizes[h];
        mask = mask == NULL ? NULL : mask + sizes[h];
    }
}

/* Set each number to its mean, or sample its normal distribution by noise in [0, 1) unless that is NULL. */
static void set_numbers(const float *mean, const float *log_std, const float *noise, int size, float *number)
{
    const float smallest = 2.9802322387695312e-8f; /* 2^-25: the quantile of 0 is infinite */

    for (int i = 0; i < size; ++i) {
        number[i] = mean[i];
        if (noise != NULL) {
            const float probability = noise[i] < smallest ? smallest : noise[i];
            number[i] += expf(log_std[i]) * (float)normal_quantile(probability);
        }
    }
}

/* Convert numbers, -1 to 1, to the units of the action space, within its bounds; NaN stays NaN. */
static void to_bounds(float *x, int size, const float *center, const float *half_width, const float *low,
                      const float *high)
{
    for (int i = 0; i < size; ++i) {
        const float action = center[i] + half_width[i] * x[i];
        x[i] = action < low[i] ? low[i] : action > high[i] ? high[i] : action;
    }
}
