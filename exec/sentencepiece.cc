// The one file that knows SentencePiece's C++ interface.
extern "C" {
#include "exec/sentencepiece.h"
#include "exec/sentencepiece_check.h"
}

#include <climits>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <string_view>
#include <vector>

struct moe_spm {
    sentencepiece::SentencePieceProcessor model;
};

namespace
{

// Runs f; what it throws becomes a status.
template <class F> enum moe_status guarded(const char *what, struct moe_err *err, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return moe_fail_memory(err, what);
    } catch (const std::exception &e) {
        return moe_fail(err, MOE_ERR_INPUT, "%s: %s", what, e.what());
    } catch (...) {
        return moe_fail(err, MOE_ERR_INPUT, "%s: SentencePiece failed", what);
    }
}

// Status is a class of SentencePiece's own, and from 0.2.2 on of Abseil's.
template <class Status>
enum moe_status check(const Status &status, const char *what, struct moe_err *err)
{
    if (status.ok())
        return MOE_OK;
    return moe_fail(err, MOE_ERR_INPUT, "%s: %s", what, status.ToString().c_str());
}

// n > 0 elements and room for one more.
template <class T> T *copy(const T *from, size_t n)
{
    T *to = static_cast<T *>(calloc(n + 1, sizeof *to));
    if (!to)
        throw std::bad_alloc();
    if (n)
        memcpy(to, from, n * sizeof *to);
    return to;
}

} // namespace

enum moe_status moe_spm_load(struct moe_spm **out, const char *data, size_t size,
                             struct moe_err *err)
{
    const char *what = "SentencePiece model";
    return guarded(
        what, err, [&]() -> enum moe_status {
            if (size > INT_MAX)
                return moe_fail(err, MOE_ERR_INPUT, "%s: %zu bytes exceed %d", what, size, INT_MAX);
            enum moe_status status = moe_spm_check(data, size, err);
            if (status != MOE_OK)
                return status;
            auto spm = std::make_unique<moe_spm>();
            status =
                check(spm->model.LoadFromSerializedProto(std::string_view(data, size)), what, err);
            if (status != MOE_OK)
                return status;
            if (spm->model.GetPieceSize() < 1)
                return moe_fail(err, MOE_ERR_INPUT, "%s: no pieces", what);
            *out = spm.release();
            return MOE_OK;
        });
}

void moe_spm_free(struct moe_spm *spm)
{
    delete spm;
}

int32_t moe_spm_size(const struct moe_spm *spm)
{
    return spm->model.GetPieceSize();
}

const char *moe_spm_piece(const struct moe_spm *spm, int32_t id, size_t *n)
{
    const std::string &piece = spm->model.IdToPiece(id);
    *n = piece.size();
    return piece.c_str();
}

enum moe_spm_kind moe_spm_kind(const struct moe_spm *spm, int32_t id)
{
    const auto &model = spm->model;
    if (model.IsUnknown(id))
        return MOE_SPM_UNKNOWN;
    if (model.IsControl(id))
        return MOE_SPM_CONTROL;
    if (model.IsUnused(id))
        return MOE_SPM_UNUSED;
    return model.IsByte(id) ? MOE_SPM_BYTE : MOE_SPM_TEXT;
}

int32_t moe_spm_id(const struct moe_spm *spm, const char *piece, size_t n)
{
    const std::string_view wanted(piece, n);
    const int id = spm->model.PieceToId(wanted); // the unknown piece's for what is not there
    return id >= 0 && id < spm->model.GetPieceSize() && spm->model.IdToPiece(id) == wanted ? id
                                                                                           : -1;
}

enum moe_status moe_spm_encode(const struct moe_spm *spm, const char *text, size_t n, int32_t **ids,
                               size_t *n_ids, struct moe_err *err)
{
    const char *what = "text to ids";
    return guarded(
        what, err, [&]() -> enum moe_status {
            std::vector<int> found;
            enum moe_status status =
                check(spm->model.Encode(std::string_view(text, n), &found), what, err);
            if (status != MOE_OK)
                return status;
            *ids = copy(found.data(), found.size());
            *n_ids = found.size();
            return MOE_OK;
        });
}

enum moe_status moe_spm_decode(const struct moe_spm *spm, const int32_t *ids, size_t n, char **out,
                               size_t *n_out, struct moe_err *err)
{
    const char *what = "ids to text";
    return guarded(
        what, err, [&]() -> enum moe_status {
            std::string text;
#ifdef ABSL_TYPES_SPAN_H_ // from 0.2.2 on, which will drop vectors
            const auto list = absl::MakeConstSpan(ids, n);
#else
            const std::vector<int> list(ids, ids + n);
#endif
            enum moe_status status = check(spm->model.Decode(list, &text), what, err);
            if (status != MOE_OK)
                return status;
            *out = copy(text.data(), text.size());
            *n_out = text.size();
            return MOE_OK;
        });
}
