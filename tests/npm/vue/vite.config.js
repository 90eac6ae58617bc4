import vue from "@vitejs/plugin-vue";

const isCustomElement = (tag) => tag === "task-progress";

export default { plugins: [vue({ template: { compilerOptions: { isCustomElement } } })] };
