// The contract of exec/cuda/kernels.h: which kernels make up a piece of the forward pass.
#include "exec/cuda/launch.cuh"

int moe_cuda_load(void)
{
    return first_error({moe_cuda_load_attention(), moe_cuda_load_gemm(), moe_cuda_load_linear(),
                        moe_cuda_load_norm(), moe_cuda_load_routes(), moe_cuda_load_words()});
}

// RMSNorm of the pass's queries or keys, where the architecture has it.
static void normalise_heads(const struct moe_cuda_context *cuda, const struct moe_llm_config *c,
                            const struct moe_norm *norm, uint32_t n_heads, float *x, uint32_t n)
{
    const uint32_t width = moe_llm_qk_width(c, n_heads);
    if (norm->scale)
        moe_cuda_norm(cuda, c->norm_eps, norm, width, x, nullptr,
                      n * (n_heads * c->head_dim / width), x);
}

void moe_cuda_attend(const struct moe_cuda_context *cuda, const struct moe_attend_job *job)
{
    const struct moe_activations *a = job->a;
    const struct moe_llm_config *c = job->config;
    const struct moe_llm_layer *layer = job->layer;
    const struct moe_cuda_linear qkv[] = {
        {&layer->q, nullptr, layer->q_bias, a->q},
        {&layer->k, nullptr, layer->k_bias, a->k},
        {&layer->v, nullptr, layer->v_bias, a->v},
    };
    const struct moe_cuda_linear out = {&layer->o, nullptr, layer->o_bias, a->out};
    const struct moe_cuda_linear routers[] = {
        {&layer->router, nullptr, nullptr, a->score},
        {job->next_router, nullptr, nullptr, a->ahead},
    };
    moe_cuda_norm(cuda, c->norm_eps, &layer->before_attention, c->d_model, a->x, nullptr, a->n,
                  a->u);
    moe_cuda_linears(cuda, qkv, 3, a->u, a->n);
    normalise_heads(cuda, c, &layer->q_norm, c->n_heads, a->q, a->n);
    normalise_heads(cuda, c, &layer->k_norm, c->n_kv_heads, a->k, a->n);
    moe_cuda_attention(cuda, job);
    moe_cuda_linears(cuda, &out, 1, a->attended, a->n);
    moe_cuda_norm(cuda, c->norm_eps, &layer->before_experts, c->d_model, a->x, a->out, a->n, a->u);
    moe_cuda_linears(cuda, routers, job->next_router ? 2 : 1, a->u, a->n);
    moe_cuda_routes(cuda, job);
}

void moe_cuda_expert(const struct moe_cuda_context *cuda, const struct moe_expert_job *job)
{
    const struct moe_expert_weights *w = job->weights;
    const struct moe_activations *a = job->a;
    const size_t row = job->row, d = w->w1.cols, f = w->w1.rows;
    if (job->n_tokens == 0)
        return;
    const struct moe_cuda_linear gate_up = {&w->w1, &w->w3, nullptr, a->ffn_h + row * f};
    const struct moe_cuda_linear down = {&w->w2, nullptr, nullptr, a->ffn_y + row * d};
    moe_cuda_linears(cuda, &gate_up, 1, a->ffn_x + row * d, job->n_tokens);
    moe_cuda_linears(cuda, &down, 1, a->ffn_h + row * f, job->n_tokens);
}

void moe_cuda_head(const struct moe_cuda_context *cuda, const struct moe_head_job *job)
{
    const struct moe_activations *a = job->a;
    const struct moe_llm_config *c = job->config;
    const size_t last = static_cast<size_t>(a->n - 1) * c->d_model;
    const struct moe_cuda_linear head = {job->head, nullptr, job->bias, job->logits};
    moe_cuda_norm(cuda, c->norm_eps, job->norm, c->d_model, a->x + last, nullptr, 1, a->u + last);
    moe_cuda_linears(cuda, &head, 1, a->u + last, 1);
}
