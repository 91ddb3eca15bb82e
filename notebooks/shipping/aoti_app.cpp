// Runs an AOTInductor package on pictures: aoti_app digits.pt2 pictures.bin logits.bin
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <fstream>
#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 4) throw std::invalid_argument("give a model, pictures, a file for logits");
  at::set_num_threads(1);
  torch::inductor::AOTIModelPackageLoader model(argv[1]);

  std::ifstream in(argv[2], std::ios::binary);
  std::ofstream out(argv[3], std::ios::binary);
  if (!in || !out) throw std::runtime_error("a file can't be opened");
  std::vector<float> batch(500 * 784);
  auto bytes = reinterpret_cast<char*>(batch.data());
  while (in.read(bytes, 4 * batch.size()), in.gcount() > 0) {
    int64_t n = in.gcount() / (4 * 784);  // the last batch may be smaller
    at::Tensor pictures = at::from_blob(batch.data(), {n, 1, 28, 28});
    at::Tensor logits = model.run({pictures})[0].contiguous();
    out.write(static_cast<const char*>(logits.data_ptr()), logits.nbytes());
  }
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
