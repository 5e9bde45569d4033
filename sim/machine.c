#include "sim/machine.h"

#include "policies/trace_run.h"

#include <stdlib.h>

enum op_kind { ATTEND, HEAD, EXPERT, COPY, STATE_DOWN, STATE_UP, MARK, N_KINDS };
enum op_cause { NO_CAUSE, HIT, LATE_FILL, MISS, EARLY, ON_DEMAND, FILL, PREFETCH, N_CAUSES };

static const char *const kind_names[N_KINDS] = {"attend",     "head",     "expert", "fill",
                                                "state down", "state up", NULL};
static const char *const cause_names[N_CAUSES] = {NULL,    "hit",       "late fill", "miss",
                                                  "early", "on demand", "miss",      "prefetch"};

static const enum moe_track track_of[MOE_N_QUEUES] = {
    [MOE_QUEUE_GPU] = MOE_TRACK_GPU,      [MOE_QUEUE_CPU] = MOE_TRACK_CPU,
    [MOE_QUEUE_DEMAND] = MOE_TRACK_H2D,   [MOE_QUEUE_FILL] = MOE_TRACK_H2D,
    [MOE_QUEUE_PREFETCH] = MOE_TRACK_H2D, [MOE_QUEUE_DOWN] = MOE_TRACK_STATE,
    [MOE_QUEUE_UP] = MOE_TRACK_STATE,
};

enum { COPY_QUEUES = 1 << MOE_QUEUE_DEMAND | 1 << MOE_QUEUE_FILL | 1 << MOE_QUEUE_PREFETCH };

/* The last operations that touched a slot (or staging buffer). */
struct buffer {
    moe_op copy, use;
};

enum { N_STAGING = 2, MAX_HELD = 64 };

/* A cpu_tail that is done, while 0 would mean that the CPU takes no part in the layer: number 0 of
 * the CPU's queue, whose operations are numbered from 1. */
static const moe_op CPU_DONE = MOE_QUEUE_CPU;

/* Calls of the layer under way that are held back: experts in slots, experts on the CPU and the
 * combination. If no copy is asked for before time has to move, their durations are added up
 * (moe_engine_run_layer); otherwise they are submitted to the engine in the order they came. */
struct held {
    bool open;                    /* nothing of the layer was submitted: calls can be held back */
    uint32_t n, n_cpu;            /* calls held; those of them on the CPU */
    bool combined;                /* combine was called, and the CPU had a part */
    struct moe_layer_work work;   /* the sum of the calls held */
    struct moe_ffn ffn[MAX_HELD]; /* slot -1: on the CPU */
};

struct moe_sim_machine {
    struct moe_sim_setup setup;
    struct moe_engine *engine;
    struct buffer *slot; /* [n_slots] */
    struct buffer staging[N_STAGING];
    uint64_t n_staged, n_unstaged; /* experts copied to, and computed from, staging buffers */
    moe_op pending[2];             /* what the next GPU operation waits for */
    unsigned n_pending;
    bool late;         /* one of them is a copy into a slot */
    moe_op cpu_tail;   /* last CPU operation of the layer; 0: the CPU takes no part so far */
    moe_op *early;     /* [E] the operation of each expert begun early for the next layer */
    moe_op taken;      /* of those that this layer takes the one done last; 0: none */
    moe_op early_down; /* this layer's activations on their way down for experts of the next */
    bool uses_early;   /* cpu_early has been called */
    struct moe_step step;
    struct held held;
    uint64_t step_start_ns;
    uint64_t down_ns, up_ns; /* activations of this step */
    uint64_t attend_ns[2];   /* dense part in this step, overheads included: [0] of the first layer
                                with experts and the dense layers before it; [1] of each other */
    double attend_bytes[2];  /* that it reads from host DRAM */
    uint64_t cpu_ns, gpu_ns; /* one expert for one token */
    uint64_t cpu_dram, copy_dram[2], most_copy_dram; /* kB/s; copies: pinned, pageable */
    struct moe_usage usage[2];                       /* by enum moe_phase */
    struct moe_usage *now;                           /* of the phase under way */
};

static void show(struct moe_sim_machine *m, moe_op op, const struct moe_op_spec *spec,
                 uint64_t start_ns, uint64_t end_ns)
{
    if (spec->kind == MARK)
        return;
    bool routed = spec->kind == EXPERT || spec->kind == COPY;
    struct moe_operation shown = {.track = track_of[moe_op_queue(op)],
                                  .name = kind_names[spec->kind],
                                  .cause = cause_names[spec->cause],
                                  .layer = spec->kind == HEAD ? -1 : (int32_t)spec->layer,
                                  .expert = routed ? (int32_t)spec->expert : -1,
                                  .slot = spec->slot,
                                  .start_ns = start_ns,
                                  .end_ns = end_ns};
    moe_timeline_add(m->setup.timeline, &shown);
}

static void on_done(void *user, moe_op op, const struct moe_op_spec *spec, uint64_t start_ns,
                    uint64_t end_ns)
{
    struct moe_sim_machine *m = user;
    if (spec->kind == COPY) {
        m->now->h2d_copies++;
        if (spec->slot >= 0)
            moe_cache_ready(m->setup.cache, spec->slot);
    }
    if (m->setup.timeline)
        show(m, op, spec, start_ns, end_ns);
}

enum moe_status moe_sim_machine_new(struct moe_sim_machine **out, const struct moe_sim_setup *setup,
                                    struct moe_err *err)
{
    enum { QUEUE_DEPTH = 1024 }; /* operations that a CUDA stream takes before it blocks the host */
    const struct moe_costs *costs = setup->costs;
    struct moe_sim_machine *m = calloc(1, sizeof *m);
    if (!m)
        return moe_fail_memory(err, "the simulated machine");
    m->setup = *setup;
    m->now = &m->usage[MOE_PREFILL];
    m->cpu_ns = costs->cpu_expert_ns;
    m->gpu_ns = costs->gpu_expert_ns;
    m->cpu_dram = moe_cost_expert_dram_kb_per_s(costs, m->cpu_ns);
    for (int i = 0; i < 2; i++)
        m->copy_dram[i] = moe_cost_kb_per_s(moe_cost_copy_dram_bytes(costs), costs->copy_ns[i]);
    m->most_copy_dram = m->copy_dram[m->copy_dram[1] > m->copy_dram[0]];
    m->slot = calloc((size_t)setup->n_slots + 1, sizeof *m->slot);
    m->early = calloc(costs->model->n_experts, sizeof *m->early);
    enum moe_status s =
        m->slot && m->early
            ? moe_engine_new(&m->engine, moe_cost_dram_kb_per_s(costs), QUEUE_DEPTH, err)
            : moe_fail_memory(err, "the simulated machine's slots");
    if (s) {
        moe_sim_machine_free(m);
        return s;
    }
    moe_engine_observe(m->engine, setup->timeline ? ~0u : COPY_QUEUES, on_done, m);
    moe_engine_count_into(m->engine, m->now->busy_ns);
    *out = m;
    return MOE_OK;
}

void moe_sim_machine_free(struct moe_sim_machine *m)
{
    if (!m)
        return;
    moe_engine_free(m->engine);
    free(m->slot);
    free(m->early);
    free(m);
}

const struct moe_usage *moe_sim_machine_usage(const struct moe_sim_machine *m, enum moe_phase phase)
{
    return &m->usage[phase];
}

static struct moe_op_spec *place(struct moe_sim_machine *m, enum moe_queue queue)
{
    return moe_engine_place(m->engine, queue);
}

/* Submits the GPU operation written to its place, which waits for the pending operations. */
static moe_op submit_gpu(struct moe_sim_machine *m, struct moe_op_spec *spec)
{
    spec->after[0] = m->n_pending > 0 ? m->pending[0] : 0;
    spec->after[1] = m->n_pending > 1 ? m->pending[1] : 0;
    m->n_pending = 0;
    return moe_engine_submit(m->engine, MOE_QUEUE_GPU);
}

/* The next GPU operation, and with it all later ones, waits for op. */
static void gpu_after(struct moe_sim_machine *m, moe_op op)
{
    if (moe_engine_done(m->engine, op))
        return;
    if (m->n_pending == 2) {
        struct moe_op_spec *mark = place(m, MOE_QUEUE_GPU);
        *mark = (struct moe_op_spec){.kind = MARK, .slot = -1};
        submit_gpu(m, mark);
    }
    m->pending[m->n_pending++] = op;
}

static uint64_t gpu_expert_ns(const struct moe_sim_machine *m, uint32_t n_tokens)
{
    return n_tokens == 1 ? m->gpu_ns : moe_cost_gpu_expert_ns(m->setup.costs, n_tokens);
}

static uint64_t cpu_expert_ns(const struct moe_sim_machine *m, uint32_t n_tokens)
{
    return n_tokens == 1 ? m->cpu_ns : moe_cost_cpu_expert_ns(m->setup.costs, n_tokens);
}

static uint64_t cpu_expert_dram(const struct moe_sim_machine *m, uint32_t n_tokens, uint64_t ns)
{
    return n_tokens == 1 ? m->cpu_dram : moe_cost_expert_dram_kb_per_s(m->setup.costs, ns);
}

static struct buffer *next_unstaged(struct moe_sim_machine *m)
{
    return &m->staging[m->n_unstaged++ % N_STAGING];
}

static void queue_gpu(struct moe_sim_machine *m, const struct moe_ffn *ffn)
{
    struct buffer *buffer = ffn->slot >= 0 ? &m->slot[ffn->slot] : next_unstaged(m);
    if (ffn->slot < 0)
        gpu_after(m, buffer->copy);
    uint64_t ns = gpu_expert_ns(m, ffn->n_tokens);
    double dram_bytes = moe_cost_gpu_expert_dram_bytes(m->setup.costs);
    struct moe_op_spec *spec = place(m, MOE_QUEUE_GPU);
    *spec = (struct moe_op_spec){.work_ns = ns,
                                 .dram_kb_per_s = moe_cost_kb_per_s(dram_bytes, ns),
                                 .kind = EXPERT,
                                 .cause = ffn->slot < 0 ? MISS
                                          : m->late     ? LATE_FILL
                                                        : HIT,
                                 .layer = (uint16_t)ffn->layer,
                                 .expert = ffn->expert,
                                 .slot = ffn->slot};
    m->late = false;
    buffer->use = submit_gpu(m, spec);
}

/* Sends the layer's activations down. Returns the operation, or 0 where they are there already. */
static moe_op queue_down(struct moe_sim_machine *m, uint32_t layer)
{
    if (m->cpu_tail || m->early_down || m->setup.costs->no_gpu)
        return 0;
    *place(m, MOE_QUEUE_DOWN) = (struct moe_op_spec){
        .work_ns = m->down_ns, .kind = STATE_DOWN, .layer = (uint16_t)layer, .slot = -1};
    return moe_engine_submit(m->engine, MOE_QUEUE_DOWN);
}

static moe_op queue_cpu_expert(struct moe_sim_machine *m, const struct moe_ffn *ffn, moe_op after,
                               enum op_cause cause)
{
    uint64_t ns = cpu_expert_ns(m, ffn->n_tokens);
    *place(m, MOE_QUEUE_CPU) =
        (struct moe_op_spec){.after = {after, 0},
                             .work_ns = ns,
                             .dram_kb_per_s = cpu_expert_dram(m, ffn->n_tokens, ns),
                             .kind = EXPERT,
                             .cause = (uint8_t)cause,
                             .layer = (uint16_t)ffn->layer,
                             .expert = ffn->expert,
                             .slot = -1};
    return moe_engine_submit(m->engine, MOE_QUEUE_CPU);
}

static void queue_cpu(struct moe_sim_machine *m, const struct moe_ffn *ffn)
{
    m->cpu_tail = queue_cpu_expert(m, ffn, queue_down(m, ffn->layer), MISS);
}

/* Ends the layer's CPU part: what it computed goes up, and the next GPU operation waits for it. */
static void queue_up(struct moe_sim_machine *m, uint32_t layer)
{
    const moe_op tail = m->cpu_tail, taken = m->taken;
    m->cpu_tail = m->taken = 0;
    if (m->early_down) /* the next layer's dense part overwrites what comes down */
        gpu_after(m, m->early_down);
    m->early_down = 0;
    /* Without a GPU, what comes next is behind it in the CPU's queue. */
    if ((!tail && !taken) || m->setup.costs->no_gpu)
        return;
    *place(m, MOE_QUEUE_UP) = (struct moe_op_spec){.after = {tail, taken},
                                                   .work_ns = m->up_ns,
                                                   .kind = STATE_UP,
                                                   .layer = (uint16_t)layer,
                                                   .slot = -1};
    gpu_after(m, moe_engine_submit(m->engine, MOE_QUEUE_UP));
}

/* Submits what was held back; the rest of the layer will go to the engine at once. */
static void submit_held(struct moe_sim_machine *m)
{
    struct held *held = &m->held;
    held->open = false;
    for (uint32_t i = 0; i < held->n; i++) {
        if (held->ffn[i].slot >= 0)
            queue_gpu(m, &held->ffn[i]);
        else
            queue_cpu(m, &held->ffn[i]);
    }
    if (held->combined)
        queue_up(m, held->ffn[0].layer);
    held->n = 0;
    held->combined = false;
}

/* Holds the expert back if the layer may still be one whose durations are added up. */
static bool hold(struct moe_sim_machine *m, const struct moe_ffn *ffn)
{
    if (m->held.n == MAX_HELD)
        submit_held(m);
    if (!m->held.open)
        return false;
    m->held.ffn[m->held.n++] = *ffn;
    return true;
}

/* The dense part where there is no GPU: an operation on the CPU behind the whole layer; waits for
 * it. */
static void run_on_cpu(struct moe_sim_machine *m, uint64_t ns, double dram_bytes, enum op_kind kind,
                       uint32_t layer)
{
    *place(m, MOE_QUEUE_CPU) =
        (struct moe_op_spec){.work_ns = ns,
                             .dram_kb_per_s = moe_cost_kb_per_s(dram_bytes, ns),
                             .kind = (uint8_t)kind,
                             .layer = (uint16_t)layer,
                             .slot = -1};
    moe_engine_run_until(m->engine, moe_engine_submit(m->engine, MOE_QUEUE_CPU));
}

/* The dense part: an operation on the GPU behind the whole layer; waits for it. */
static void run_dense(struct moe_sim_machine *m, uint64_t ns, double dram_bytes, enum op_kind kind,
                      uint32_t layer)
{
    if (m->setup.costs->no_gpu) {
        run_on_cpu(m, ns, dram_bytes, kind, layer);
        return;
    }
    struct held *held = &m->held;
    held->work.last_ns = ns < MOE_MAX_WORK_NS ? ns : MOE_MAX_WORK_NS;
    if (!held->open || ns == 0 || !moe_engine_run_layer(m->engine, &held->work)) {
        submit_held(m);
        struct moe_op_spec *spec = place(m, MOE_QUEUE_GPU);
        *spec = (struct moe_op_spec){.work_ns = ns,
                                     .dram_kb_per_s = moe_cost_kb_per_s(dram_bytes, ns),
                                     .kind = (uint8_t)kind,
                                     .layer = (uint16_t)layer,
                                     .slot = -1};
        moe_engine_run_until(m->engine, submit_gpu(m, spec));
    }
    /* Adding up durations shows no operations, and ignores that GPU and CPU share a DRAM. */
    held->open = !m->setup.timeline && !m->setup.costs->shares_dram;
    held->n = held->n_cpu = 0;
    held->combined = false;
    held->work = (struct moe_layer_work){.dram_kb_per_s = m->most_copy_dram};
    m->late = false;
}

/* How long the GPU was busy and the CPU was not, in this phase so far; 0 as long as no expert was
 * begun early: only count_host asks, and needs it only then. */
static uint64_t gpu_alone_ns(const struct moe_sim_machine *m)
{
    uint64_t ns = 0;
    for (unsigned lanes = 0; m->uses_early && lanes < 1u << MOE_N_LANES; lanes++)
        if ((lanes >> MOE_LANE_GPU & 1) && !(lanes >> MOE_LANE_CPU & 1))
            ns += m->now->busy_ns[lanes];
    return ns;
}

static enum moe_status begin_step(void *machine, const struct moe_step *step, struct moe_err *err)
{
    struct moe_sim_machine *m = machine;
    if (!step->tokens)
        return moe_fail(err, MOE_ERR_USAGE, "the simulated machine needs routes to replay");
    const struct moe_costs *costs = m->setup.costs;
    m->step = *step;
    m->now = &m->usage[step->phase];
    moe_engine_count_into(m->engine, m->now->busy_ns);
    const uint64_t n = step->n_tokens, cached = step->cached;
    m->attend_ns[1] = costs->layer_overhead_ns + moe_cost_attend_ns(costs, n, cached);
    m->attend_ns[0] = m->attend_ns[1] + moe_cost_leading_ns(costs, n, cached) +
                      costs->model->dense_layers * costs->layer_overhead_ns;
    m->attend_bytes[1] = moe_cost_attend_dram_bytes(costs, n, cached);
    m->attend_bytes[0] = m->attend_bytes[1] + moe_cost_leading_dram_bytes(costs, n, cached);
    m->down_ns = moe_cost_state_down_ns(costs, step->n_tokens);
    m->up_ns = moe_cost_state_up_ns(costs, step->n_tokens);
    m->step_start_ns = moe_engine_now(m->engine);
    return MOE_OK;
}

/* Counts the overhead inside the dense part that has just run, as far as the CPU was idle meanwhile
 * (experts begun early may have been running). before: gpu_alone_ns when the dense part began. */
static void count_host(struct moe_sim_machine *m, uint64_t overhead_ns, uint64_t before)
{
    uint64_t alone = m->uses_early ? gpu_alone_ns(m) - before : overhead_ns;
    m->now->host_ns += alone < overhead_ns ? alone : overhead_ns;
}

static enum moe_status attend(void *machine, uint32_t layer, struct moe_layer_routes *out,
                              struct moe_err *err)
{
    struct moe_sim_machine *m = machine;
    (void)err;
    const struct moe_costs *costs = m->setup.costs;
    const uint64_t n_layers = 1 + (layer == 0 ? costs->model->dense_layers : 0);
    uint64_t alone = gpu_alone_ns(m);
    run_dense(m, m->attend_ns[layer > 0], m->attend_bytes[layer > 0], ATTEND, layer);
    count_host(m, n_layers * costs->layer_overhead_ns, alone);
    moe_trace_routes(&m->step, costs->model, m->setup.next_use, layer, out);
    return MOE_OK;
}

static void gpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_sim_machine *m = machine;
    m->now->gpu_experts++;
    if (hold(m, ffn))
        m->held.work.gpu_ns += gpu_expert_ns(m, ffn->n_tokens);
    else
        queue_gpu(m, ffn);
}

static void cpu_ffn(void *machine, const struct moe_ffn *ffn)
{
    struct moe_sim_machine *m = machine;
    m->now->cpu_experts++;
    if (!hold(m, ffn)) {
        queue_cpu(m, ffn);
        return;
    }
    struct moe_layer_work *work = &m->held.work;
    uint64_t ns = cpu_expert_ns(m, ffn->n_tokens), dram = cpu_expert_dram(m, ffn->n_tokens, ns);
    work->down_ns = m->down_ns;
    work->cpu_ns += ns;
    dram += m->most_copy_dram;
    work->dram_kb_per_s = dram > work->dram_kb_per_s ? dram : work->dram_kb_per_s;
    m->held.n_cpu++;
}

/* Operations begun early overlap two layers: such layers are always submitted to the engine. */
static void cpu_early(void *machine, const struct moe_ffn *ffn)
{
    struct moe_sim_machine *m = machine;
    m->now->cpu_unused++;
    submit_held(m);
    moe_op down = queue_down(m, ffn->layer - 1);
    m->early_down = down ? down : m->early_down;
    m->uses_early = true;
    m->early[ffn->expert] = queue_cpu_expert(m, ffn, down, EARLY);
}

static void cpu_take(void *machine, const struct moe_ffn *ffn)
{
    struct moe_sim_machine *m = machine;
    m->now->cpu_unused--;
    m->now->cpu_experts++;
    submit_held(m);
    if (m->early[ffn->expert] > m->taken) /* of one queue: the greater handle is done later */
        m->taken = m->early[ffn->expert];
}

static void cpu_wait(void *machine)
{
    struct moe_sim_machine *m = machine;
    struct held *held = &m->held;
    uint64_t ns = held->work.down_ns + held->work.cpu_ns;
    /* Not if a GPU expert would then still be running: run_layer waits for all there is. */
    if (held->open && held->work.cpu_ns > 0 && held->work.gpu_ns <= ns &&
        moe_engine_run_layer(m->engine, &held->work)) {
        held->open = false;
        held->n = 0;
        m->cpu_tail = CPU_DONE;
        return;
    }
    submit_held(m);
    moe_engine_run_until(m->engine, m->cpu_tail);
    moe_engine_run_until(m->engine, m->taken);
}

static void fetch(void *machine, const struct moe_fetch *f)
{
    static const uint8_t cause_of[] = {
        [MOE_FETCH_DEMAND] = ON_DEMAND, [MOE_FETCH_FILL] = FILL, [MOE_FETCH_PREFETCH] = PREFETCH};
    struct moe_sim_machine *m = machine;
    if (m->setup.instant_fills && f->priority != MOE_FETCH_DEMAND) {
        moe_cache_ready(m->setup.cache, f->slot);
        return;
    }
    submit_held(m);
    struct buffer *buffer =
        f->slot >= 0 ? &m->slot[f->slot] : &m->staging[m->n_staged++ % N_STAGING];
    enum moe_queue queue = (enum moe_queue)(MOE_QUEUE_DEMAND + (int)f->priority);
    *place(m, queue) = (struct moe_op_spec){.after = {buffer->copy, buffer->use},
                                            .work_ns = m->setup.costs->copy_ns[f->pageable],
                                            .dram_kb_per_s = m->copy_dram[f->pageable],
                                            .kind = COPY,
                                            .cause = cause_of[f->priority],
                                            .layer = (uint16_t)f->layer,
                                            .expert = f->expert,
                                            .slot = f->slot};
    buffer->copy = moe_engine_submit(m->engine, queue);
    if (f->pageable)
        moe_engine_run_until(m->engine, buffer->copy);
}

static void slot_wait(void *machine, moe_slot slot, bool host)
{
    struct moe_sim_machine *m = machine;
    moe_op copy = m->slot[slot].copy;
    submit_held(m);
    m->late = !moe_engine_done(m->engine, copy);
    if (host)
        moe_engine_run_until(m->engine, copy);
    gpu_after(m, copy);
}

static bool cancel(void *machine, moe_slot slot)
{
    struct moe_sim_machine *m = machine;
    if (!moe_engine_cancel(m->engine, m->slot[slot].copy, MARK))
        return false;
    m->slot[slot].copy = 0;
    return true;
}

static void combine(void *machine, uint32_t layer)
{
    struct moe_sim_machine *m = machine;
    if (!m->held.open) {
        queue_up(m, layer);
        return;
    }
    m->held.combined = m->held.n_cpu > 0;
    m->held.work.up_ns = m->held.n_cpu ? m->up_ns : 0;
}

static enum moe_status end_step(void *machine, struct moe_err *err)
{
    struct moe_sim_machine *m = machine;
    const struct moe_costs *costs = m->setup.costs;
    (void)err;
    /* Only the last token of a prompt needs logits. */
    uint64_t n = m->step.phase == MOE_PREFILL ? m->step.requests : m->step.n_tokens;
    uint64_t alone = gpu_alone_ns(m);
    run_dense(m, costs->token_overhead_ns + moe_cost_head_ns(costs, n),
              moe_cost_head_dram_bytes(costs), HEAD, 0);
    count_host(m, costs->token_overhead_ns, alone);
    if (m->setup.timeline) {
        struct moe_operation token = {.track = MOE_TRACK_TOKEN,
                                      .name = m->step.phase == MOE_PREFILL ? "prefill" : "token",
                                      .layer = -1,
                                      .expert = -1,
                                      .slot = -1,
                                      .start_ns = m->step_start_ns,
                                      .end_ns = moe_engine_now(m->engine)};
        moe_timeline_add(m->setup.timeline, &token);
    }
    return MOE_OK;
}

static moe_ns now(void *machine)
{
    return moe_engine_now(((const struct moe_sim_machine *)machine)->engine);
}

const struct moe_machine_ops moe_sim_machine_ops = {
    .begin_step = begin_step,
    .attend = attend,
    .gpu_ffn = gpu_ffn,
    .cpu_ffn = cpu_ffn,
    .cpu_early = cpu_early,
    .cpu_take = cpu_take,
    .cpu_wait = cpu_wait,
    .fetch = fetch,
    .slot_wait = slot_wait,
    .cancel = cancel,
    .combine = combine,
    .end_step = end_step,
    .now = now,
};
