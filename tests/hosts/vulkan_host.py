"""Runs a printed GLSL kernel, compiled to SPIR-V, with the PyPI ``vulkan`` binding alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..parity.case import Array
from .kernels import HostCase, param_block

BASE = 3
"""Elements before the first one of each buffer, told to the kernel as the binding's rest."""
GUARD = np.float32(-12345.0)


class Host:
    """An instance, a device and its first compute queue."""

    def __init__(self) -> None:
        import vulkan as vk

        self.vk = vk
        application = vk.VkApplicationInfo(
            pApplicationName="kernels", apiVersion=vk.VK_MAKE_VERSION(1, 1, 0)
        )
        self.instance = vk.vkCreateInstance(
            vk.VkInstanceCreateInfo(pApplicationInfo=application), None
        )
        self.physical = vk.vkEnumeratePhysicalDevices(self.instance)[0]
        families = vk.vkGetPhysicalDeviceQueueFamilyProperties(self.physical)
        self.family = next(
            i for i, f in enumerate(families) if f.queueFlags & vk.VK_QUEUE_COMPUTE_BIT
        )
        queue = vk.VkDeviceQueueCreateInfo(
            queueFamilyIndex=self.family, queueCount=1, pQueuePriorities=[1.0]
        )
        self.device = vk.vkCreateDevice(
            self.physical, vk.VkDeviceCreateInfo(pQueueCreateInfos=[queue]), None
        )
        self.queue = vk.vkGetDeviceQueue(self.device, self.family, 0)
        self._made: list[tuple[Any, Any]] = []

    def close(self) -> None:
        self.release()
        self.vk.vkDestroyDevice(self.device, None)
        self.vk.vkDestroyInstance(self.instance, None)

    def release(self) -> None:
        """Destroys what a run made, the latest first."""
        for destroy, handle in reversed(self._made):
            destroy(self.device, handle, None)
        self._made.clear()

    def _keep(self, handle: Any, destroy: Any) -> Any:
        self._made.append((destroy, handle))
        return handle

    def buffer(self, data: Array) -> tuple[Any, Any]:
        """A host-visible storage buffer with `data` in it, and its memory."""
        vk = self.vk
        info = vk.VkBufferCreateInfo(
            size=data.nbytes,
            usage=vk.VK_BUFFER_USAGE_STORAGE_BUFFER_BIT,
            sharingMode=vk.VK_SHARING_MODE_EXCLUSIVE,
        )
        buffer = self._keep(vk.vkCreateBuffer(self.device, info, None), vk.vkDestroyBuffer)
        needs = vk.vkGetBufferMemoryRequirements(self.device, buffer)
        wanted = vk.VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | vk.VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
        types = vk.vkGetPhysicalDeviceMemoryProperties(self.physical)
        kind = next(
            i
            for i in range(types.memoryTypeCount)
            if needs.memoryTypeBits >> i & 1
            and types.memoryTypes[i].propertyFlags & wanted == wanted
        )
        allocation = vk.VkMemoryAllocateInfo(allocationSize=needs.size, memoryTypeIndex=kind)
        memory = self._keep(vk.vkAllocateMemory(self.device, allocation, None), vk.vkFreeMemory)
        vk.vkBindBufferMemory(self.device, buffer, memory, 0)
        mapped = vk.vkMapMemory(self.device, memory, 0, data.nbytes, 0)
        mapped[:] = data.tobytes()
        vk.vkUnmapMemory(self.device, memory)
        return buffer, memory

    def download(self, memory: Any, like: Array) -> Array:
        mapped = self.vk.vkMapMemory(self.device, memory, 0, like.nbytes, 0)
        data = np.frombuffer(bytes(mapped[:]), like.dtype).copy()
        self.vk.vkUnmapMemory(self.device, memory)
        return data

    def run(self, case: HostCase) -> tuple[Array, Array]:
        """The output, and what lies around it."""
        from dlk import _core

        code: Mapping[str, Any] = _core.print_kernel(case.request(), "glsl")
        spirv = _core.compile_glsl(code["code"], code["name"])
        result = np.full(case.want.size + 2 * BASE, GUARD, np.float32)
        buffers, output = [], None
        for binding in code["bindings"]:
            data = result
            if binding["name"] != case.output:
                given = case.inputs[binding["name"]]
                data = np.full(given.size + BASE, np.nan, np.float32)
                data[BASE:] = given.ravel()
            buffer, memory = self.buffer(data)
            buffers.append((buffer, data.nbytes))
            if binding["name"] == case.output:
                output = memory
        block = param_block(code, case.params, [BASE] * len(buffers))
        if code["params_in_buffer"]:
            data = np.frombuffer(block, np.uint32)
            buffers.append((self.buffer(data)[0], data.nbytes))
            block = b""
        self._dispatch(spirv, code["name"], buffers, block, case.groups)
        whole = self.download(output, result)
        self.release()
        return whole[BASE:-BASE], np.concatenate([whole[:BASE], whole[-BASE:]])

    def _dispatch(
        self,
        spirv: bytes,
        entry: str,
        buffers: list[tuple[Any, int]],
        push: bytes,
        groups: tuple[int, int, int],
    ) -> None:
        vk, device = self.vk, self.device
        stage, kind = vk.VK_SHADER_STAGE_COMPUTE_BIT, vk.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
        bindings = [
            vk.VkDescriptorSetLayoutBinding(
                binding=i, descriptorType=kind, descriptorCount=1, stageFlags=stage
            )
            for i in range(len(buffers))
        ]
        layout = self._keep(
            vk.vkCreateDescriptorSetLayout(
                device, vk.VkDescriptorSetLayoutCreateInfo(pBindings=bindings), None
            ),
            vk.vkDestroyDescriptorSetLayout,
        )
        ranges = [vk.VkPushConstantRange(stageFlags=stage, offset=0, size=len(push))]
        pipeline_layout = self._keep(
            vk.vkCreatePipelineLayout(
                device,
                vk.VkPipelineLayoutCreateInfo(
                    pSetLayouts=[layout], pPushConstantRanges=ranges if push else None
                ),
                None,
            ),
            vk.vkDestroyPipelineLayout,
        )
        module = self._keep(
            vk.vkCreateShaderModule(
                device, vk.VkShaderModuleCreateInfo(codeSize=len(spirv), pCode=spirv), None
            ),
            vk.vkDestroyShaderModule,
        )
        # Named, so that the text of pName lives until the pipeline is made.
        shader = vk.VkPipelineShaderStageCreateInfo(stage=stage, module=module, pName=entry)
        info = vk.VkComputePipelineCreateInfo(stage=shader, layout=pipeline_layout)
        pipeline = vk.vkCreateComputePipelines(device, None, 1, [info], None)[0]
        self._keep(pipeline, vk.vkDestroyPipeline)
        sizes = [vk.VkDescriptorPoolSize(type=kind, descriptorCount=len(buffers))]
        pool = self._keep(
            vk.vkCreateDescriptorPool(
                device, vk.VkDescriptorPoolCreateInfo(maxSets=1, pPoolSizes=sizes), None
            ),
            vk.vkDestroyDescriptorPool,
        )
        sets = vk.vkAllocateDescriptorSets(
            device, vk.VkDescriptorSetAllocateInfo(descriptorPool=pool, pSetLayouts=[layout])
        )
        writes = [
            vk.VkWriteDescriptorSet(
                dstSet=sets[0],
                dstBinding=i,
                descriptorCount=1,
                descriptorType=kind,
                pBufferInfo=[vk.VkDescriptorBufferInfo(buffer=buffer, offset=0, range=size)],
            )
            for i, (buffer, size) in enumerate(buffers)
        ]
        vk.vkUpdateDescriptorSets(device, len(writes), writes, 0, None)
        commands_pool = self._keep(
            vk.vkCreateCommandPool(
                device, vk.VkCommandPoolCreateInfo(queueFamilyIndex=self.family), None
            ),
            vk.vkDestroyCommandPool,
        )
        commands = vk.vkAllocateCommandBuffers(
            device,
            vk.VkCommandBufferAllocateInfo(
                commandPool=commands_pool,
                level=vk.VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                commandBufferCount=1,
            ),
        )[0]
        vk.vkBeginCommandBuffer(commands, vk.VkCommandBufferBeginInfo())
        point = vk.VK_PIPELINE_BIND_POINT_COMPUTE
        vk.vkCmdBindPipeline(commands, point, pipeline)
        vk.vkCmdBindDescriptorSets(commands, point, pipeline_layout, 0, 1, sets, 0, None)
        if push:
            data = vk.ffi.new("char[]", push)
            vk.vkCmdPushConstants(commands, pipeline_layout, stage, 0, len(push), data)
        vk.vkCmdDispatch(commands, *groups)
        vk.vkEndCommandBuffer(commands)
        vk.vkQueueSubmit(self.queue, 1, [vk.VkSubmitInfo(pCommandBuffers=[commands])], None)
        vk.vkQueueWaitIdle(self.queue)
