// Checks must_be_f32() for every tensor that llama.cpp knows, and the guard against tensors that a file lacks:
//   cllm-model-test
// llama.cpp's own table says with which operator it uses each tensor. Prints one line per failure; exits with 1 if
// there is any.
#include <cstdio>
#include <stdexcept>
#include <string>

#include "base/ggml_guard.h"
#include "llama-arch.h"
#include "llama/missing_tensors.h"
#include "model/model_file_checks.h"

using namespace cllm;

namespace {

/// Whether the operator reads the tensor in F32 alone. Products and ggml_get_rows take every type of weights.
bool reads_f32_alone(ggml_op op) {
  switch (op) {
    case GGML_OP_ADD:
    case GGML_OP_MUL:
    case GGML_OP_DIV:
    case GGML_OP_SCALE:  // attention sinks
    case GGML_OP_ROPE:
    case GGML_OP_SSM_CONV:
    case GGML_OP_SSM_SCAN:
    case GGML_OP_RWKV_WKV6: return true;
    case GGML_OP_MUL_MAT:
    case GGML_OP_MUL_MAT_ID:
    case GGML_OP_GET_ROWS:
    case GGML_OP_IM2COL:
    case GGML_OP_NONE: return false;
    default: throw std::runtime_error(std::string("llama.cpp uses a tensor with ") + ggml_op_name(op));
  }
}

/// Whether the tensor must be in F32. The operator in llama.cpp's table only chooses the tensor's memory; for two
/// tensors the graph uses another operator.
bool expected(llm_tensor tensor) {
  if (tensor == LLM_TENSOR_TOKEN_TYPES) return true;  // bert.cpp adds a view of its first row
  if (tensor == LLM_TENSOR_PLE_CONV1D) return false;  // qwen4exp.cpp casts it
  return reads_f32_alone(llm_tensor_info_for(tensor).op);
}

int check_name(const std::string& name, bool f32) {
  if (must_be_f32(name) == f32) return 0;
  std::printf("%s: expected %s\n", name.c_str(), f32 ? "f32 alone" : "every type of weights");
  return 1;
}

/// Checks every tensor of llama.cpp's table, with each suffix that a tensor has there.
int check_llama_table() {
  int failures = 0, tensors = 0;
  for (int id = 0; id < 1000; id++) {
    const auto tensor = static_cast<llm_tensor>(id);
    bool f32 = false;
    try {
      f32 = expected(tensor);
    } catch (const std::out_of_range&) {
      continue;  // no tensor, or one that llama.cpp no longer loads
    }
    tensors++;
    const LLM_TN name(LLM_ARCH_LLAMA);
    failures += check_name(name(tensor, "weight", 17, 3), f32) + check_name(name(tensor, 17, 3), f32);
    for (const char* suffix : {"bias", "scale", "input_scale"})
      failures += check_name(name(tensor, suffix, 17, 3), true);
  }
  if (tensors > 250) return failures;
  return std::printf("only %d tensors in llama.cpp's table\n", tensors), failures + 1;
}

// Names of tensors in public files, some of which begin or end like others.
constexpr const char* kF32Names[] = {"blk.0.ssm_a",
                                     "blk.0.ssm_d",
                                     "blk.0.ssm_dt.bias",
                                     "blk.0.ssm_conv1d.weight",
                                     "blk.0.ssm_conv1d.bias",
                                     "blk.0.ssm_norm.weight",
                                     "blk.0.ssm_dt_norm.weight",
                                     "blk.0.ssm_b_norm",
                                     "blk.0.shortconv.conv.weight",
                                     "blk.0.attn_norm.weight",
                                     "blk.0.attn_norm_2.weight",
                                     "blk.0.attn_q_norm.weight",
                                     "blk.0.attn_sub_norm.weight",
                                     "blk.0.post_attention_norm.weight",
                                     "blk.0.post_ffw_norm_1.weight",
                                     "blk.0.ffn_norm_exps.weight",
                                     "blk.0.ple_norm_key.weight",
                                     "blk.0.nextn.enorm.weight",
                                     "blk.0.nextn.hnorm.weight",
                                     "token_embd_norm.weight",
                                     "output_norm.weight",
                                     "enc.output_norm.weight",
                                     "dec.blk.0.cross_attn_norm.weight",
                                     "cls.norm.weight",
                                     "posnet.0.norm1.weight",
                                     "convnext.0.gamma.weight",
                                     "blk.0.time_mix_lerp_fused.weight",
                                     "blk.0.time_mix_first.weight",
                                     "blk.0.time_mix_w0.weight",
                                     "blk.0.channel_mix_lerp_k.weight",
                                     "blk.0.exp_probs_b.bias",
                                     "blk.0.ffn_gate_inp.bias",
                                     "blk.0.altup_correct_scale.weight",
                                     "blk.0.altup_router_norm.weight",
                                     "blk.0.laurel_post_norm.weight",
                                     "blk.0.ffn_act.scales",
                                     "blk.0.attn_q.scale",
                                     "rope_freqs.weight",
                                     "token_types.weight"};
constexpr const char* kOtherNames[] = {"blk.0.ssm_alpha.weight",
                                       "blk.0.ssm_beta.weight",
                                       "blk.0.ssm_ba.weight",
                                       "blk.0.ssm_dt.weight",
                                       "blk.0.ssm_in.weight",
                                       "blk.0.ssm_f_a.weight",
                                       "blk.0.shortconv.in_proj.weight",
                                       "blk.0.ffn_gate_inp.weight",
                                       "blk.0.ffn_gate_inp_shexp.weight",
                                       "blk.0.time_mix_w1.weight",
                                       "blk.0.time_mix_decay_w1.weight",
                                       "blk.0.time_mix_key.weight",
                                       "blk.0.altup_correct_coef.weight",
                                       "blk.0.altup_router.weight",
                                       "blk.0.laurel_l.weight",
                                       "blk.0.attn_kv_a_mqa.weight",
                                       "cls.output.weight",
                                       "cls.weight",
                                       "token_embd.weight",
                                       "output.weight",
                                       "per_layer_token_embd.weight",
                                       "blk.0.normal.weight",
                                       "enormous.weight"};

int check_public_names() {
  int failures = 0;
  for (const char* name : kF32Names) failures += check_name(name, true);
  for (const char* name : kOtherNames) failures += check_name(name, false);
  return failures;
}

/// llama.cpp's graphs are compiled with missing_tensors.h, like this function.
int check_missing_tensors() {
  install_ggml_guard();
  ggml_tensor present{};
  try {
    GgmlGuard guard;
    if (cllm_present(&present) != &present) return std::printf("a tensor that is present changes\n"), 1;
    ggml_mul_mat(nullptr, &present, nullptr);
  } catch (const std::exception& error) {
    return std::string(error.what()).find("lacks a tensor") == std::string::npos;
  }
  return std::printf("a tensor that is missing is not reported\n"), 1;
}

}  // namespace

int main() {
  const int failures = check_llama_table() + check_public_names() + check_missing_tensors();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
