/* Classifies image files with an exported SavedModel through TensorFlow's C library: ./classify FOLDER IMAGE...

   The library and its headers lie in TensorFlow's wheel:

     TF=$(python -c 'from importlib.util import find_spec as f; print(f("tensorflow").submodule_search_locations[0])')
     cc -O2 classify.c -o classify -I"$TF/include" -L"$TF" -Wl,-rpath,"$TF" \
       -l:libtensorflow_cc.so.2 -l:libtensorflow_framework.so.2
     TF_CPP_MIN_LOG_LEVEL=3 ./classify saved_models/digits_resnet20/1 seven.png three.jpg

   Prints each image's most probable classes: probability, score (logit), name. If an image cannot be classified, it
   prints the reason, continues with the next image, and exits with status 1. The first image takes longest. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

#define SIGNATURE "serve_bytes"

typedef struct {
  const uint8_t* at;
  const uint8_t* end;
} Bytes;

// The parts of protobuf's wire format that MetaGraphDef needs: varints, and fields with a length.

static int read_number(Bytes* from, uint64_t* number) {
  *number = 0;
  for (int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
    uint8_t byte = *from->at++;
    *number |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return 1;
  }
  return 0;
}

// Goes to the message's next field of this number; false if there is none, or the message is damaged.
static int next_field(Bytes* message, uint64_t wanted, Bytes* value) {
  uint64_t tag, number;
  while (message->at < message->end && read_number(message, &tag)) {
    uint64_t length = 0;
    switch (tag & 7) {
      case 0:
        if (!read_number(message, &number)) return 0;
        break;
      case 1:
        length = 8;
        break;
      case 2:
        if (!read_number(message, &length)) return 0;
        break;
      case 5:
        length = 4;
        break;
      default:
        return 0;
    }
    if (length > (uint64_t)(message->end - message->at)) return 0;
    *value = (Bytes){message->at, message->at + length};
    message->at += length;
    if (tag == (wanted << 3 | 2)) return 1;
  }
  return 0;
}

static int is(Bytes bytes, const char* text) {
  return (size_t)(bytes.end - bytes.at) == strlen(text) && !memcmp(bytes.at, text, strlen(text));
}

// Finds the value of a key in a map, which on the wire is a repeated message of key (1) and value (2).
static int find(Bytes message, uint64_t map, const char* key, Bytes* value) {
  Bytes entry;
  while (next_field(&message, map, &entry)) {
    Bytes rest = entry, found;
    if (next_field(&rest, 1, &found) && is(found, key)) return next_field(&entry, 2, value);
  }
  return 0;
}

// Finds the tensor behind a name of the signature: MetaGraphDef.signature_def is 5, SignatureDef.inputs is 1 and
// .outputs 2, TensorInfo.name is 1, and reads "operation:output". A signature's own names are none of the graph's.
static TF_Output tensor(TF_Graph* graph, Bytes meta_graph, uint64_t side, const char* name) {
  TF_Output found = {NULL, 0};
  Bytes signature, info, path;
  if (!find(meta_graph, 5, SIGNATURE, &signature) || !find(signature, side, name, &info) ||
      !next_field(&info, 1, &path)) {
    return found;
  }
  char operation[1024];
  size_t length = path.end - path.at;
  if (length >= sizeof operation) return found;
  memcpy(operation, path.at, length);
  operation[length] = '\0';
  char* colon = strrchr(operation, ':');
  if (colon == NULL) return found;
  *colon = '\0';
  found.oper = TF_GraphOperationByName(graph, operation);
  found.index = atoi(colon + 1);
  if (found.oper != NULL && (found.index < 0 || found.index >= TF_OperationNumOutputs(found.oper))) found.oper = NULL;
  return found;
}

static char* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) return NULL;
  char* content = NULL;
  size_t room = 0;
  *size = 0;
  do {
    if (*size == room) content = realloc(content, room = room ? 2 * room : 1 << 16);
    if (content == NULL) abort();
    *size += fread(content + *size, 1, room - *size, file);
  } while (!feof(file) && !ferror(file));
  if (ferror(file)) {
    int error = errno;
    free(content);
    content = NULL;
    errno = error;
  }
  fclose(file);
  return content;
}

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * now.tv_sec + 1e-6 * now.tv_nsec;
}

enum { NAMES, SCORES, PROBABILITIES, OUTPUTS };
static const char* const OUTPUT_NAMES[] = {"names", "scores", "probabilities"};
static const TF_DataType OUTPUT_TYPES[] = {TF_STRING, TF_FLOAT, TF_FLOAT};

static void print_classes(const char* path, TF_Tensor* const* outputs, double time) {
  const TF_TString* names = TF_TensorData(outputs[NAMES]);
  const float* scores = TF_TensorData(outputs[SCORES]);
  const float* probabilities = TF_TensorData(outputs[PROBABILITIES]);
  printf("%s  %.1f ms\n", path, time);
  for (int64_t i = 0; i < TF_TensorElementCount(outputs[NAMES]); i++) {
    printf("  %.6f  %9.4f  %.*s\n", probabilities[i], scores[i], (int)TF_StringGetSize(&names[i]),
           TF_StringGetDataPointer(&names[i]));
  }
}

// Classifies one file; false if that failed, of which stderr then has the reason.
static int classify(TF_Session* session, TF_Output input, const TF_Output* wanted, const char* path) {
  size_t size;
  char* content = read_file(path, &size);
  if (content == NULL) {
    fprintf(stderr, "%s: Expected a file that can be read. Received: %s\n", path, strerror(errno));
    return 0;
  }
  const int64_t one = 1;
  TF_Tensor* images = TF_AllocateTensor(TF_STRING, &one, 1, sizeof(TF_TString));
  TF_TString* image = TF_TensorData(images);
  TF_StringInit(image);
  TF_StringAssignView(image, content, size);  // no copy: the content outlives the run

  TF_Status* status = TF_NewStatus();
  TF_Tensor* outputs[OUTPUTS] = {NULL};
  double start = milliseconds();
  TF_SessionRun(session, NULL, &input, &images, 1, wanted, outputs, OUTPUTS, NULL, 0, NULL, status);
  int good = TF_GetCode(status) == TF_OK;
  if (good) {
    print_classes(path, outputs, milliseconds() - start);
  } else {
    fprintf(stderr, "%s: %s\n", path, TF_Message(status));
  }
  for (int i = 0; i < OUTPUTS; i++) {
    if (outputs[i] != NULL) TF_DeleteTensor(outputs[i]);
  }
  TF_DeleteStatus(status);
  TF_DeleteTensor(images);
  free(content);
  return good;
}

// Finds the signature's tensors; false if one is not there, or not of its type.
static int find_tensors(TF_Graph* graph, const TF_Buffer* meta_graph, TF_Output* input, TF_Output* outputs) {
  Bytes message = {meta_graph->data, (const uint8_t*)meta_graph->data + meta_graph->length};
  *input = tensor(graph, message, 1, "image_bytes");
  int good = input->oper != NULL && TF_OperationOutputType(*input) == TF_STRING;
  for (int i = 0; i < OUTPUTS; i++) {
    outputs[i] = tensor(graph, message, 2, OUTPUT_NAMES[i]);
    good = good && outputs[i].oper != NULL && TF_OperationOutputType(outputs[i]) == OUTPUT_TYPES[i];
  }
  return good;
}

int main(int count, char** arguments) {
  if (count < 3) {
    fprintf(stderr, "usage: %s SAVED_MODEL_FOLDER IMAGE...\n", arguments[0]);
    return 2;
  }
  const char* folder = arguments[1];
  const char* tags[] = {"serve"};
  TF_Status* status = TF_NewStatus();
  TF_Graph* graph = TF_NewGraph();
  TF_Buffer* meta_graph = TF_NewBuffer();
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Session* session = TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, graph, meta_graph, status);
  TF_DeleteSessionOptions(options);
  if (session == NULL) {
    fprintf(stderr, "%s: %s\n", folder, TF_Message(status));
    return 1;
  }
  TF_Output input, outputs[OUTPUTS];
  int found = find_tensors(graph, meta_graph, &input, outputs);
  if (!found) fprintf(stderr, "Expected a SavedModel with the signature " SIGNATURE ". Received: %s\n", folder);
  TF_DeleteBuffer(meta_graph);

  int failed = !found;
  for (int i = 2; found && i < count; i++) {
    if (!classify(session, input, outputs, arguments[i])) failed = 1;
  }
  TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return failed;
}
