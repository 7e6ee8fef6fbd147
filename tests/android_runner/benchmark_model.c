/* A stand-in for TensorFlow Lite's benchmark_model, for tests: it runs no model.
 *
 * For each "run" it keeps the processor busy for a time that follows from the size of the model file (NS_A_BYTE for each byte), and prints the
 * real statistics of those runs in the format of the real program. Flags are --name=value; ones it does not know are told
 * as `Unconsumed cmdline flags`. What the file is called provokes faults: `..._old`, `..._prefixed`, `..._crash`, `..._hang`,
 * `..._rubbish`, `..._truncated`, `..._fallback`, `..._partial`, `..._exit3`, `..._zero`, `..._noisy`.
 *
 * Build: cc -O2 -o benchmark_model benchmark_model.c -lm
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NS_A_BYTE 10
#define MOST_RUNS 1000000

static const char *called;
static FILE *out;
static const char *prefix = "INFO: ";

static bool is(const char *fault) {
    size_t length = strlen(called), wanted = strlen(fault);
    return length > wanted && strcmp(called + length - wanted, fault) == 0;
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct statistics {
    int64_t count, first, current, least, most;
    double sum, squares;
};

static int by_size(const void *a, const void *b) {
    int64_t first = *(const int64_t *)a, second = *(const int64_t *)b;
    return (first > second) - (first < second);
}

static void print_statistics(const struct statistics *s, int64_t *runs_us) {
    fprintf(out, "%scount=%lld", prefix, (long long)s->count);
    if (s->count > 0) {
        double average = s->sum / (double)s->count, variance = s->squares / (double)s->count - average * average;
        if (s->count > 1 && s->least != s->most)
            fprintf(out, " first=%lld curr=%lld min=%lld max=%lld avg=%g std=%lld", (long long)s->first, (long long)s->current, (long long)s->least,
                    (long long)s->most, average, (long long)sqrt(variance > 0 ? variance : 0));
        else
            fprintf(out, s->count > 1 ? " curr=%lld(all same)" : " curr=%lld", (long long)s->current);
        if (!is("_old") && s->count > 1) {
            qsort(runs_us, (size_t)s->count, sizeof *runs_us, by_size);
            fprintf(out, " p5=%lld median=%lld p95=%lld", (long long)runs_us[s->count * 5 / 100], (long long)runs_us[s->count / 2],
                    (long long)runs_us[s->count * 95 / 100]);
        }
    }
    fprintf(out, "\n\n");
}

static struct statistics run(int64_t least_runs, double least_s, int64_t busy_ns) {
    struct statistics s = {0};
    int64_t *runs_us = calloc(MOST_RUNS, sizeof *runs_us), begin = now_ns();
    fprintf(out, is("_old") ? "%sRunning benchmark for at least %lld iterations and at least %g seconds\n"
                            : "%sRunning benchmark for at least %lld iterations and at least %g seconds but terminate if exceeding 150 seconds.\n",
            prefix, (long long)least_runs, least_s);
    while ((s.count < least_runs || (double)(now_ns() - begin) < least_s * 1e9) && s.count < MOST_RUNS) {
        int64_t start = now_ns();
        while (now_ns() - start < busy_ns)
            ;
        int64_t us = is("_zero") ? 0 : (now_ns() - start) / 1000;
        runs_us[s.count++] = us;
        s.first = s.count == 1 ? us : s.first;
        s.least = s.count == 1 || us < s.least ? us : s.least;
        s.most = us > s.most ? us : s.most;
        s.current = us;
        s.sum += (double)us;
        s.squares += (double)us * (double)us;
    }
    print_statistics(&s, runs_us);
    free(runs_us);
    return s;
}

static bool flag(const char *argument, const char *name, char *value, size_t size) {
    size_t length = strlen(name);
    if (strncmp(argument, "--", 2) || strncmp(argument + 2, name, length) || argument[2 + length] != '=') return false;
    snprintf(value, size, "%s", argument + 3 + length);
    return true;
}

static bool yes(const char *value) { return !strcmp(value, "true") || !strcmp(value, "1"); }

static void tell_delegate(const char *name) {
    if (is("_fallback"))
        fprintf(out, "%sThough %s delegate is explicitly applied, the model graph will not be executed by the delegate.\n", prefix, name);
    else if (is("_partial"))
        fprintf(out, "%sExplicitly applied %s delegate, and the model graph will be partially executed by the delegate w/ 2 delegate kernels.\n", prefix,
                name);
    else
        fprintf(out, "%sExplicitly applied %s delegate, and the model graph will be completely executed by the delegate.\n", prefix, name);
}

int main(int count, char **arguments) {
    char graph[4096] = "", runs[64] = "50", seconds[64] = "1", warmup_runs[64] = "1", warmup_seconds[64] = "0.5", threads[64] = "-1", value[4096];
    char unknown[8192] = "";
    bool xnnpack = false, xnnpack_set = false, gpu = false, nnapi = false;
    called = strrchr(arguments[0], '/') ? strrchr(arguments[0], '/') + 1 : arguments[0];
    out = stdout;
    if (is("_old")) out = stderr, prefix = "";
    if (is("_prefixed")) prefix = "05-30 15:16:44.858  3380  3380 I tflite  : ";
    fprintf(out, "%sSTARTING!\n", prefix);
    for (int i = 1; i < count; i++) {
        bool known = true;
        if (flag(arguments[i], "graph", graph, sizeof graph) || flag(arguments[i], "num_runs", runs, sizeof runs) ||
            flag(arguments[i], "min_secs", seconds, sizeof seconds) || flag(arguments[i], "warmup_runs", warmup_runs, sizeof warmup_runs) ||
            flag(arguments[i], "warmup_min_secs", warmup_seconds, sizeof warmup_seconds) || flag(arguments[i], "num_threads", threads, sizeof threads))
            ;
        else if (!is("_old") && flag(arguments[i], "use_xnnpack", value, sizeof value)) xnnpack = yes(value), xnnpack_set = true;
        else if (flag(arguments[i], "use_gpu", value, sizeof value)) gpu = yes(value);
        else if (flag(arguments[i], "use_nnapi", value, sizeof value)) nnapi = yes(value);
        else known = false;
        if (!known) {
            strncat(unknown, " ", sizeof unknown - strlen(unknown) - 1);
            strncat(unknown, arguments[i], sizeof unknown - strlen(unknown) - 1);
        }
    }
    if (*unknown) fprintf(out, "%sUnconsumed cmdline flags:%s\n", prefix, unknown);
    fprintf(out, "%sLog parameter values verbosely: [0]\n%sMin num runs: [%s]\n%sNum threads: [%s]\n%sGraph: [%s]\n", prefix, prefix, runs, prefix,
            threads, prefix, graph);
    struct stat file;
    if (stat(graph, &file) || !S_ISREG(file.st_mode)) {
        fprintf(stderr, "ERROR: Failed to mmap model %s\nERROR: Benchmarking failed.\n", graph);
        return 1;
    }
    fprintf(out, "%sLoaded model %s\n", prefix, graph);
    if (is("_crash")) {
        fflush(NULL);
        abort();
    }
    if (is("_rubbish")) {
        for (int i = 0; i < 20000; i++) putchar(1 + i * 2654435761u % 255);
        return 0;
    }
    if (is("_noisy"))
        for (;;) puts("a line that says nothing and is printed without end");
    if (gpu) tell_delegate("GPU");
    if (nnapi) tell_delegate("NNAPI");
    if (xnnpack) tell_delegate("XNNPACK");
    if (!gpu && !nnapi && !xnnpack && !xnnpack_set && !is("_old"))
        fprintf(out, "%sCreated TensorFlow Lite XNNPACK delegate for CPU.\n", prefix);
    fprintf(out, "%sThe input model file size (MB): %g\n%sInitialized session in 0.321ms.\n", prefix, (double)file.st_size / 1e6, prefix);
    fflush(NULL);
    if (is("_hang"))
        for (;;) pause();
    int64_t busy_ns = (int64_t)file.st_size * NS_A_BYTE;
    struct statistics warmup = run(atoll(warmup_runs), atof(warmup_seconds), busy_ns);
    struct statistics regular = run(atoll(runs), atof(seconds), busy_ns);
    if (is("_truncated")) return 0;
    double warmup_average = warmup.count ? warmup.sum / (double)warmup.count : 0, average = regular.count ? regular.sum / (double)regular.count : 0;
    if (is("_old"))
        fprintf(out, "Average inference timings in us: Warmup: %g, Init: 321, no stats: %g\n", warmup_average, average);
    else
        fprintf(out, "%sInference timings in us: Init: 321, First inference: %lld, Warmup (avg): %g, Inference (avg): %g\n", prefix,
                (long long)warmup.first, warmup_average, average);
    fprintf(out, "%sNote: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the "
                 "model at runtime. Take the information at your discretion.\n", prefix);
    fprintf(out, "%sMemory footprint delta from the start of the tool (MB): init=0.5 overall=0.75\n", prefix);
    return is("_exit3") ? 3 : 0;
}
