// Runs an ONNX file on pictures: openvino_app digits.onnx pictures.bin logits.bin
#include <openvino/openvino.hpp>

#include <fstream>
#include <iostream>
#include <vector>

int main(int argc, char** argv) try {
  if (argc != 4) throw std::invalid_argument("give a model, pictures, a file for logits");
  ov::Core core;
  auto model = core.compile_model(argv[1], "CPU",
                                  ov::hint::inference_precision(ov::element::f32),
                                  ov::inference_num_threads(1));
  auto request = model.create_infer_request();

  std::ifstream in(argv[2], std::ios::binary);
  std::ofstream out(argv[3], std::ios::binary);
  if (!in || !out) throw std::runtime_error("a file can't be opened");
  std::vector<float> batch(500 * 784);
  auto bytes = reinterpret_cast<char*>(batch.data());
  while (in.read(bytes, 4 * batch.size()), in.gcount() > 0) {
    size_t n = in.gcount() / (4 * 784);  // the last batch may be smaller
    request.set_input_tensor(ov::Tensor(ov::element::f32, {n, 1, 28, 28}, batch.data()));
    request.infer();
    ov::Tensor logits = request.get_output_tensor();
    out.write(static_cast<const char*>(logits.data()), logits.get_byte_size());
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
