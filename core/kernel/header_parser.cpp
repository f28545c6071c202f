// Files, headers, functions and libraries; bodies are in parser.cpp.
#include <algorithm>
#include <set>

#include "core/kernel/parser.h"

namespace dlk::dialect {

namespace {

class FileParser {
 public:
  explicit FileParser(Unit& unit)
      : unit_(unit), reader_(unit.source, lex(unit.source)), body_(unit, reader_) {}

  void run() {
    while (!reader_.at_end()) {
      const Token& token = reader_.peek();
      if (!token.first_on_line) reader_.fail("expected a new line before " + reader_.describe());
      if (reader_.accept("library")) {
        library(token);
      } else if (reader_.accept("use")) {
        unit_.uses.push_back(reader_.take_name("a library").text);
      } else if (reader_.accept("func")) {
        function();
      } else if (reader_.accept("kernel")) {
        kernel();
      } else {
        reader_.fail("expected 'kernel', 'func', 'library' or 'use' but found " +
                     reader_.describe());
      }
    }
  }

 private:
  void library(const Token& token) {
    if (!unit_.library.empty() || !unit_.kernels.empty() || !unit_.functions.empty()) {
      reader_.fail(token, "'library' stands once, before all functions");
    }
    unit_.library = reader_.declare_name("a library").text;
  }

  void function() {
    Function& function = unit_.functions.emplace_back();
    function.unit = &unit_;
    function.return_type = reader_.take_name("a return type").text;
    const Token& name = reader_.declare_name("a function");
    function.name = name.text;
    function.at = name.at;
    for (const Function& other : unit_.functions) {
      if (&other != &function && other.name == name.text) {
        reader_.fail(name, "the function '" + std::string(name.text) + "' is defined twice");
      }
    }
    reader_.expect("(", "after the function's name");
    if (!reader_.is(")")) {
      do {
        FunctionParam& param = function.params.emplace_back();
        reader_.accept("const");
        param.type = reader_.take_name("a parameter's type").text;
        const Token& param_name = reader_.declare_name("a parameter");
        param.name = param_name.text;
        param.at = param_name.at;
      } while (reader_.accept(","));
    }
    reader_.expect(")", "after the function's parameters");
    function.body = body_.block();
  }

  void kernel() {
    KernelDecl& kernel = unit_.kernels.emplace_back();
    kernel.unit = &unit_;
    const Token& name = reader_.declare_name("a kernel");
    kernel.name = name.text;
    kernel.at = name.at;
    for (const KernelDecl& other : unit_.kernels) {
      if (&other != &kernel && other.name == name.text) {
        reader_.fail(name, "there is already a kernel '" + std::string(name.text) + "'");
      }
    }
    names_.clear();
    while (!reader_.is("{")) {
      const Token line = reader_.peek();
      if (reader_.at_end()) reader_.fail("the kernel '" + std::string(name.text) + "' has no body");
      if (!line.first_on_line) {
        reader_.fail("unexpected " + reader_.describe() + " at the end of a header line");
      }
      header_line(kernel);
    }
    kernel.body = body_.block();
  }

  void header_line(KernelDecl& kernel) {
    const Token word = reader_.take_name("a header line");
    if (word.text == "type") return type_line(kernel);
    if (word.text == "const") return const_line(kernel);
    if (word.text == "in" || word.text == "out" || word.text == "inout") {
      return buffer_line(kernel, word.text);
    }
    if (word.text == "param") return param_line(kernel);
    if (word.text == "local") return array_line(kernel, DeclKind::kLocal);
    if (word.text == "tile") return array_line(kernel, DeclKind::kTile);
    if (word.text == "acc") return array_line(kernel, DeclKind::kAcc);
    if (word.text == "group") return group_line(kernel, word);
    if (word.text == "use") {
      unit_.uses.push_back(reader_.take_name("a library").text);
      return;
    }
    if (word.text == "epilogue") {
      kernel.has_epilogue = true;
      return;
    }
    if (word.text == "subgroups") {
      kernel.uses_subgroups = true;
      return;
    }
    reader_.fail(word, "'" + std::string(word.text) +
                           "' starts no header line (type, const, in, out, inout, param, local, "
                           "group, use, epilogue, subgroups, tile, acc)");
  }

  HeaderDecl& declare(KernelDecl& kernel, DeclKind kind, std::string_view what) {
    const Token& name = reader_.declare_name(what);
    if (!names_.insert(name.text).second) {
      reader_.fail(name, "'" + std::string(name.text) + "' is declared twice");
    }
    HeaderDecl& decl = kernel.decls.emplace_back();
    decl.kind = kind;
    decl.name = name.text;
    decl.at = name.at;
    return decl;
  }

  void type_line(KernelDecl& kernel) {
    do {
      HeaderDecl& decl = declare(kernel, DeclKind::kType, "a type");
      reader_.expect("=", "after the type's name");
      const Token& value = reader_.take_name("a storage type");
      if (!parse_dtype(value.text)) reader_.fail(value, "this is no storage type");
      decl.type = value.text;
    } while (reader_.accept(","));
  }

  void const_line(KernelDecl& kernel) {
    do {
      HeaderDecl& decl = declare(kernel, DeclKind::kConst, "a constant");
      reader_.expect("=", "after the constant's name");
      decl.value = body_.expression();
    } while (reader_.accept(","));
  }

  void when_clause(HeaderDecl& decl) {
    if (reader_.accept("when")) decl.when = body_.expression();
  }

  void buffer_line(KernelDecl& kernel, std::string_view access) {
    HeaderDecl& decl = declare(kernel, DeclKind::kBuffer, "a buffer");
    decl.access = access;
    reader_.expect(":", "before the buffer's type");
    const Token& type = reader_.take_name("a storage type");
    const bool is_parameter =
        std::any_of(kernel.decls.begin(), kernel.decls.end(), [&](const HeaderDecl& other) {
          return other.kind == DeclKind::kType && other.name == type.text;
        });
    if (!is_parameter && !parse_dtype(type.text)) {
      reader_.fail(type, "'" + std::string(type.text) +
                             "' is neither a type of this kernel nor a storage type");
    }
    decl.type = type.text;
    when_clause(decl);
  }

  void param_line(KernelDecl& kernel) {
    const size_t first = kernel.decls.size();
    do {
      HeaderDecl& decl = declare(kernel, DeclKind::kParam, "a parameter");
      if (reader_.accept("[")) {
        decl.dims.push_back(body_.expression());
        reader_.expect("]", "after the size of a parameter");
      }
    } while (reader_.accept(","));
    reader_.expect(":", "before the parameters' type");
    const Token& type = reader_.take_name("a parameter's type");
    if (type.text != "uint" && type.text != "int" && type.text != "float") {
      reader_.fail(type, "a parameter is uint, int or float");
    }
    for (size_t i = first; i < kernel.decls.size(); ++i) kernel.decls[i].type = type.text;
    if (reader_.is("when")) {
      HeaderDecl& last = kernel.decls.back();
      when_clause(last);
      for (size_t i = first; i < kernel.decls.size(); ++i) kernel.decls[i].when = last.when;
    }
  }

  void array_line(KernelDecl& kernel, DeclKind kind) {
    HeaderDecl& decl = declare(kernel, kind, "an array");
    reader_.expect(":", "before the element type");
    const Token& type = reader_.take_name("an element type");
    decl.type = type.text;
    if (kind == DeclKind::kLocal && type.text != "float" && type.text != "int" &&
        type.text != "uint") {
      reader_.fail(type, "a local array is of float, int or uint");
    }
    if (kind == DeclKind::kAcc && type.text != "float" && type.text != "int") {
      reader_.fail(type, "an accumulator is of float or int");
    }
    const size_t rank = kind == DeclKind::kLocal ? 1 : 2;
    reader_.expect("[", "before the size");
    do {
      decl.dims.push_back(body_.expression());
    } while (reader_.accept(","));
    reader_.expect("]", "after the size");
    if (decl.dims.size() != rank) {
      fail_at(unit_.source, decl.at,
              rank == 1 ? "a local array has one size" : "expected two sizes");
    }
    if (kind == DeclKind::kTile && reader_.accept("stages")) decl.stages = body_.expression();
    when_clause(decl);
  }

  void group_line(KernelDecl& kernel, const Token& word) {
    if (!kernel.group.empty()) reader_.fail(word, "the group size is given twice");
    do {
      kernel.group.push_back(body_.expression());
    } while (reader_.accept(","));
    if (kernel.group.size() > 3) reader_.fail(word, "a group has at most three sizes");
  }

  Unit& unit_;
  TokenReader reader_;
  BodyParser body_;
  std::set<std::string_view> names_;
};

}  // namespace

std::unique_ptr<Unit> parse_unit(std::string_view name, std::string_view text) {
  auto unit = std::make_unique<Unit>();
  unit->source = {std::string(name), std::string(text)};
  FileParser(*unit).run();
  return unit;
}

std::unique_ptr<Unit> parse_expression(std::string_view name, std::string_view text,
                                       const Expr** expression) {
  auto unit = std::make_unique<Unit>();
  unit->source = {std::string(name), std::string(text)};
  TokenReader reader(unit->source, lex(unit->source));
  BodyParser parser(*unit, reader);
  *expression = parser.expression();
  if (!reader.at_end()) reader.fail("unexpected " + reader.describe() + " after the expression");
  return unit;
}

}  // namespace dlk::dialect
