#include "addon/trainer_object.h"

#include <atomic>
#include <chrono>

#include "addon/convert.h"
#include "addon/errors.h"
#include "addon/task.h"
#include "base/error.h"
#include "base/ggml_guard.h"
#include "train/trainer.h"

namespace cllm {

/// The object and the task that works on it share this; the later of the two frees it.
struct TrainerState {
  std::unique_ptr<Trainer> trainer;
  std::atomic<bool> busy{false};
  std::atomic<bool> stop{false};
  std::atomic<const Task*> task{nullptr};  // the task of the running call

  bool stopped() const {
    const Task* current = task.load();
    return stop.load() || (current != nullptr && current->cancelled());
  }
};

namespace {

using StatePointer = std::shared_ptr<TrainerState>;

int to_int(const Napi::Object& object, const char* name, int lowest, int highest) {
  return static_cast<int>(to_integer(object.Get(name), name, lowest, highest));
}

TrainOptions to_options(const std::string& base, const Napi::Object& object) {
  TrainOptions options;
  const auto number = [&](const char* name) { return static_cast<float>(to_number(object.Get(name), name)); };
  options.base = base;
  options.weights.product = to_bool(object.Get("bf16"), "bf16") ? GGML_TYPE_BF16 : GGML_TYPE_F32;
  options.weights.train_embeddings = to_bool(object.Get("trainEmbeddings"), "trainEmbeddings");
  options.weights.lora_rank = to_int(object, "loraRank", 0, 4096);
  options.pass.rows = to_int(object, "rowsPerPass", 1, 4096);
  options.pass.length = to_int(object, "rowTokens", 32, 1 << 16);
  options.pass.labels = to_int(object, "labels", 1, 1 << 20);
  options.passes = to_int(object, "passesPerStep", 1, 4096);
  options.block = to_int(object, "blockSize", 2, 128);
  options.ar_epochs = to_number(object.Get("arEpochs"), "arEpochs");
  options.epochs = to_number(object.Get("epochs"), "epochs");
  options.clean_share = to_number(object.Get("cleanShare"), "cleanShare");
  options.pool = to_int(object, "pool", 1, 1 << 20);
  options.row_steps = to_int(object, "rowSteps", 1, 1 << 20);
  options.loss.answers = number("arWeight");
  options.loss.blocks = number("consistencyWeight");
  options.loss.soft = number("softShare");
  options.loss.decay = number("decay");
  options.adam.learning_rate = number("learningRate");
  options.adam.weight_decay = number("weightDecay");
  options.adam.clip = number("clip");
  options.ar_learning_rate = number("arLearningRate");
  options.warmup = to_int(object, "warmup", 0, 1 << 30);
  options.seed = static_cast<uint64_t>(to_integer(object.Get("seed"), "seed", 0, UINT32_MAX));
  options.threads = to_int(object, "threads", 1, 512);
  options.gpu = to_bool(object.Get("gpu"), "gpu");
  options.fingerprint = to_text(object.Get("fingerprint"), "fingerprint");
  return options;
}

std::vector<Example> to_examples(const Napi::Object& data) {
  const auto array = [&](const char* name) {
    const Napi::Value value = data.Get(name);
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
      throw Napi::TypeError::New(data.Env(), std::string("Expected an Int32Array for ") + name);
    }
    const auto typed = value.As<Napi::Int32Array>();
    return std::vector<int32_t>(typed.Data(), typed.Data() + typed.ElementLength());
  };
  const auto tokens = array("tokens"), lengths = array("lengths");
  std::vector<Example> examples;
  size_t at = 0;
  const auto take = [&](int32_t length) {
    if (length < 1 || static_cast<size_t>(length) > tokens.size() - at) {
      throw Napi::RangeError::New(data.Env(), "Expected lengths that add up to those of tokens");
    }
    const auto begin = tokens.begin() + static_cast<ptrdiff_t>(at);
    at += static_cast<size_t>(length);
    return std::vector<int32_t>(begin, begin + length);
  };
  for (size_t i = 0; i + 1 < lengths.size(); i += 2) {
    Example example;
    example.prompt = take(lengths[i]);
    example.answer = take(lengths[i + 1]);
    examples.push_back(std::move(example));
  }
  return examples;
}

Napi::Value from_report(Napi::Env env, const StepReport& report) {
  auto object = Napi::Object::New(env);
  object.Set("step", report.step);
  object.Set("phase", report.consistency ? "consistency" : "ar");
  object.Set("answerLoss", report.answer_loss);
  object.Set("blockLoss", report.block_loss);
  object.Set("tokensPerIteration", report.tokens_per_iteration);
  object.Set("tokens", report.tokens);
  object.Set("gradientNorm", report.gradient_norm);
  object.Set("learningRate", report.learning_rate);
  return object;
}

/// The right to use the trainer, which one call has at a time. It ends with the call's work, even where the
/// work never began.
class Turn {
 public:
  explicit Turn(StatePointer state) : state_(std::move(state)) {
    if (state_->busy.exchange(true)) throw Error("CLLM_NOT_SUPPORTED", "The trainer is busy with another call");
  }
  ~Turn() { state_->busy = false; }
  Turn(const Turn&) = delete;

 private:
  StatePointer state_;
};

/// Runs `work`, which has the trainer to itself. Failed assertions of ggml become errors.
Napi::Value start(const Napi::CallbackInfo& call, const StatePointer& state, const char* name,
                  std::function<Task::Finish(Trainer&, Task&)> work) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    if (!state) throw Error("CLLM_DISPOSED", "The trainer is disposed");
    const auto turn = std::make_shared<const Turn>(state);
    return Task::start(
        call.Env(), name,
        [state, turn, work = std::move(work)](Task& task) {
          state->task = &task;
          struct Ended {
            TrainerState& state;
            ~Ended() { state.task = nullptr; }
          } const ended{*state};
          const GgmlGuard guard;
          try {
            return work(*state->trainer, task);
          } catch (const GgmlAbort& abort) {
            throw Error("CLLM_TRAINING_FAILED", abort.what());
          }
        },
        Napi::Function());
  });
}

Task::Finish undefined() {
  return [](Napi::Env env) { return env.Undefined(); };
}

}  // namespace

Napi::Value create_trainer(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    const TrainOptions options = to_options(to_text(call[0], "base"), to_object(call[1], "options"));
    const auto examples = std::make_shared<std::vector<Example>>(to_examples(to_object(call[2], "data")));
    return Task::start(
        call.Env(), "cllm.createTrainer",
        [options, examples](Task&) {
          const GgmlGuard guard;
          auto state = std::make_shared<TrainerState>();
          try {
            state->trainer = std::make_unique<Trainer>(options, std::move(*examples));
          } catch (const GgmlAbort& abort) {
            throw Error("CLLM_TRAINING_FAILED", abort.what());
          }
          return Task::Finish([state](Napi::Env env) { return TrainerObject::create(env, state); });
        },
        Napi::Function());
  });
}

Napi::Function TrainerObject::define(Napi::Env env) {
  return DefineClass(
      env, "Trainer",
      {InstanceMethod<&TrainerObject::info>("info"), InstanceMethod<&TrainerObject::load>("load"),
       InstanceMethod<&TrainerObject::run>("run"), InstanceMethod<&TrainerObject::save_checkpoint>("saveCheckpoint"),
       InstanceMethod<&TrainerObject::write>("write"), InstanceMethod<&TrainerObject::dispose>("dispose")});
}

Napi::Value TrainerObject::create(Napi::Env env, StatePointer state) {
  return env.GetInstanceData<AddonData>()->trainer_class.New({Napi::External<StatePointer>::New(env, &state)});
}

TrainerObject::TrainerObject(const Napi::CallbackInfo& call) : Napi::ObjectWrap<TrainerObject>(call) {
  if (call.Length() != 1 || !call[0].IsExternal()) {
    throw Napi::TypeError::New(call.Env(), "Expected Trainer to be created by createTrainer()");
  }
  state_ = *call[0].As<Napi::External<StatePointer>>().Data();
}

Napi::Value TrainerObject::info(const Napi::CallbackInfo& call) {
  return guarded(call.Env(), [&]() -> Napi::Value {
    if (!state_) throw Error("CLLM_DISPOSED", "The trainer is disposed");
    const Trainer& trainer = *state_->trainer;
    auto object = Napi::Object::New(call.Env());
    object.Set("bytes", trainer.bytes());
    object.Set("steps", trainer.steps());
    object.Set("arSteps", trainer.ar_steps());
    object.Set("step", trainer.step());
    object.Set("trainedParameters", trainer.weights().trained_count());
    return object;
  });
}

Napi::Value TrainerObject::load(const Napi::CallbackInfo& call) {
  const std::string checkpoint = call[0].IsNull() ? "" : to_text(call[0], "checkpoint");
  auto* state = state_.get();
  return start(call, state_, "cllm.trainerLoad", [checkpoint, state](Trainer& trainer, Task&) {
    trainer.load([state] { return state->stopped(); });
    if (!checkpoint.empty()) trainer.load_checkpoint(checkpoint);
    return undefined();
  });
}

Napi::Value TrainerObject::run(const Napi::CallbackInfo& call) {
  const auto milliseconds = to_integer(call[0], "milliseconds", 0, 1 << 30);
  return start(call, state_, "cllm.trainerRun", [milliseconds](Trainer& trainer, Task& task) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    auto reports = std::make_shared<std::vector<StepReport>>();
    do {
      if (trainer.step() >= trainer.steps()) break;
      reports->push_back(trainer.advance());
    } while (!task.cancelled() && std::chrono::steady_clock::now() < end);
    return Task::Finish([reports](Napi::Env env) -> Napi::Value {
      auto array = Napi::Array::New(env, reports->size());
      for (size_t i = 0; i < reports->size(); i++) {
        array.Set(static_cast<uint32_t>(i), from_report(env, (*reports)[i]));
      }
      return array;
    });
  });
}

Napi::Value TrainerObject::save_checkpoint(const Napi::CallbackInfo& call) {
  const std::string path = to_text(call[0], "path");
  return start(call, state_, "cllm.trainerSave", [path](Trainer& trainer, Task&) {
    trainer.save_checkpoint(path);
    return undefined();
  });
}

Napi::Value TrainerObject::write(const Napi::CallbackInfo& call) {
  const std::string path = to_text(call[0], "path");
  const std::string format = to_text(call[1], "format");
  const auto object = to_object(call[2], "notes");
  std::vector<std::pair<std::string, std::string>> notes;
  const Napi::Array keys = object.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); i++) {
    const std::string key = to_text(keys.Get(i), "key");
    notes.emplace_back(key, to_text(object.Get(key), key.c_str()));
  }
  return start(call, state_, "cllm.trainerWrite", [path, format, notes](Trainer& trainer, Task&) {
    if (format == "adapters") {
      trainer.write_adapters(path, notes);
    } else {
      trainer.write(path, format == "BF16" ? GGML_TYPE_BF16 : GGML_TYPE_F32, notes);
    }
    return undefined();
  });
}

void TrainerObject::dispose(const Napi::CallbackInfo&) {
  if (!state_) return;
  state_->stop = true;
  state_.reset();
}

}  // namespace cllm
